"""How the shipped networks are trained: `python -m attnbench.backbones.pretraining NAME`.

A recipe is data; its hash is written into the weights file, so that a file can be told from the
recipe that made it. Each objective is a file beside this one.
"""
