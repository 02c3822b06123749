"""Images through networks that are not trained: once, in batches and a precision that suit."""

from __future__ import annotations

import copy
import math
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone

# How much of a tensor goes through a network at once. On a CPU what fits its caches is quickest (8
# images of 224 pixels take 0.7 of the time that 16 do), a GPU wants to be filled.
_BYTES_ON_CPU, _BYTES_ON_GPU = 5 << 20, 256 << 20

# Images with fewer numbers than 64 x 64 pixels have stay in float32: a few milliseconds are all there
# is to save, and figures are the same on every processor.
_WORTH_BFLOAT16 = 3 * 64 * 64

# More than this of features goes to a file, so that a CPU's memory holds them but for what is in use.
_BYTES_IN_MEMORY = 256 << 20


def batches(rows: Tensor) -> Iterator[slice]:
    """Slices that cut the first dimension of `rows` into pieces that suit its device."""
    at_once = _BYTES_ON_GPU if rows.device.type == "cuda" else _BYTES_ON_CPU
    step = max(1, at_once // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def channels_last(rows: Tensor) -> Tensor:
    """The same images or maps `[n, c, h, w]`, laid out as a CPU's convolutions want them (2 x as fast).

    Rows of other dimensions stay as they are.
    """
    return rows.contiguous(memory_format=torch.channels_last) if rows.dim() == 4 else rows


@torch.no_grad()
def frozen_outputs(network: nn.Module, images: Tensor) -> Tensor:
    """What a network that is not trained makes of images: once, in batches, without gradients.

    Where it is more than 256 MiB on a CPU it is mapped from a file that has no name and goes with it,
    if a file may be as large as that.

    Args:
        network: in eval mode. An empty `nn.Sequential` gives the images themselves.
        images: `[n, 3, h, w]`, or what comes before `network`, `[n, ...]`.

    Returns:
        Its outputs, `[n, ...]`.
    """
    if isinstance(network, nn.Sequential) and not len(network):
        return images
    kept: Tensor | None = None
    for rows in batches(images):
        outputs = network(channels_last(images[rows]))
        if kept is None:
            kept = _room_for(len(images), outputs)
        kept[rows] = outputs
    if kept is None:
        raise ValueError("there are no images")
    return kept


def _room_for(count: int, like: Tensor) -> Tensor:
    """An empty tensor `[count, ...]` for rows such as those of `like`, in the same layout."""
    shape = (count, *like.shape[1:])
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or size <= _BYTES_IN_MEMORY or not _fits_on_disk(size):
        last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
    handle, path = tempfile.mkstemp()
    os.close(handle)
    try:
        flat = torch.from_file(path, shared=True, size=math.prod(shape), dtype=like.dtype)
    finally:
        os.unlink(path)
    if like.dim() == 4:
        n, c, h, w = shape
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(shape)


def _fits_on_disk(size: int) -> bool:
    """Whether this process may write a file of so many bytes, and would leave as much free."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    allowed = limit == resource.RLIM_INFINITY or size <= limit
    return allowed and size < shutil.disk_usage(tempfile.gettempdir()).free / 2


def quick_outputs(network: nn.Module, images: Tensor) -> Tensor:
    """As `frozen_outputs`, computed in bfloat16 where the device multiplies matrices in it natively.

    That is a GPU from compute capability 8, or a CPU with AMX or AVX512_BF16, where it takes half of
    the time or less; elsewhere, and for images below 64 x 64 pixels, in the precision the network has.
    A value then has 8 bits, an error of up to 0.4 %; a network in which less than that decides
    something, such as which of two places is looked at, is for `frozen_outputs`.

    Returns:
        Its outputs `[n, ...]`, in the images' dtype.
    """
    worth = images[:1].numel() >= _WORTH_BFLOAT16 and any(True for _ in network.parameters())
    if not worth or not multiplies_bfloat16(images.device):
        return frozen_outputs(network, images)
    return frozen_outputs(_InBfloat16(network), images)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has units that multiply matrices in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


class _InBfloat16(nn.Module):
    """A copy of a network that computes in bfloat16; float32 in and out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.network(images.to(torch.bfloat16))
        return cast(Tensor, outputs.to(images.dtype))


def encoder(backbone: Backbone) -> nn.Sequential:
    """All that lies before the backbone's head, pooled: images `[n, 3, h, w]` to features `[n, d]`.

    4,096 features of VGG-16, 2,048 of ResNet-50, 768 of ViT-B/16; the whole of a backbone that has no
    head. Shares the backbone's modules.
    """
    stages = [name for name in backbone.stages if name != "head"]
    return nn.Sequential(backbone.upto(stages[-1]), Pooled())


class Pooled(nn.Module):
    """Means over positions of maps `[n, c, h, w]` or tokens `[n, t, c]`; `[n, c]` stays as it is."""

    def forward(self, features: Tensor) -> Tensor:
        match features.dim():
            case 4:
                return features.mean(dim=(2, 3))
            case 3:
                return features.mean(dim=1)
            case _:
                return features
