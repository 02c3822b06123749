"""Self-supervised training by drawing from glimpses: STAWM (Harris et al. 2019, arXiv 1901.03665).

Eight windows on the picture, placed by affine transforms, are written into a Hebb-Rosenblatt memory.
After each glimpse, the memory's answer gives means and log-variances of 32 dimensions. A sample of
these is decoded into a sketch, which a second affine transform places on a canvas. The network emits
this transform along with the window's, as in the authors' code; it is not the inverse of the
window's matrix. The loss is that of the beta-VAE in `pretraining.vae`.

The model has 2,504,946 parameters. The published number is 2,570,738, which includes a layer of
65,792 parameters that is never used.

The backbone's stages are `memory`, the answer after the last glimpse `[n, 256]`, and `code`, its 32
means. `python -m pretraining.stawm WEIGHTS --data DIR` probes both, and the memory as in the paper.
"""
