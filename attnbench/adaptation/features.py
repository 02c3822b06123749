"""Features of frozen networks, computed once per image, in batches of a suitable size."""

from __future__ import annotations

import math
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from attnbench.adaptation.layers import flatten_sequential
from attnbench.backbones.backbone import Backbone

# What frozen layers can be computed in.
Precision = Literal["float32", "bfloat16"]

# Bytes of a batch at the input of a network. On a CPU, a batch that fits its caches is fastest.
# That is 8 images of 224 pixels, of which the first layers make twenty times as many bytes; in
# batches of 16, each image takes 1.4 times as long. Batches of features may be larger, as the
# layers behind them only make about as many bytes again. A GPU needs large batches to be busy.
_CPU_IMAGE_BYTES, _CPU_FEATURE_BYTES, _GPU_BYTES = 5 << 20, 25 << 20, 256 << 20

# Larger features are mapped from a file on a CPU, so that only the pages in use take up memory.
_MAX_BYTES_IN_MEMORY = 256 << 20


def batches(rows: Tensor) -> Iterator[slice]:
    """Yield slices that divide the rows of a tensor into batches of a suitable size for its device.

    Args:
        rows: images `[n, 3, h, w]`, or features `[n, ...]`.
    """
    are_images = rows.dim() == 4 and rows.shape[1] == 3
    cpu_bytes = _CPU_IMAGE_BYTES if are_images else _CPU_FEATURE_BYTES
    batch_bytes = _GPU_BYTES if rows.device.type == "cuda" else cpu_bytes
    size = max(1, batch_bytes // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), size):
        yield slice(start, start + size)


def channels_last(rows: Tensor) -> Tensor:
    """Return images or maps `[n, c, h, w]` in the channels-last memory format.

    Convolutions on a CPU are twice as fast with it. Tensors of other dimensions are returned as
    they are.
    """
    return rows.contiguous(memory_format=torch.channels_last) if rows.dim() == 4 else rows


@torch.no_grad()
def frozen_features(
    network: nn.Module, images: Tensor, *, precision: Precision = "float32"
) -> Tensor:
    """Compute the outputs of a frozen network for all images, without gradients.

    Where a layer's outputs are at most a quarter of the size of the batch's inputs, the outputs of
    all images are collected. They continue in larger batches. This helps in front of the large last
    layers of VGG: reading their weights takes longer than multiplying by them.

    With "bfloat16", the layers up to there run under `torch.autocast`, and those behind in float32.
    It is faster on devices with units for it. A bfloat16 number has 8 significant bits, an error of
    up to 0.4 %. That can change a decision inside a network, such as which of two places it looks at.

    On a CPU, features of more than 256 MiB are mapped from an unnamed temporary file, which is
    deleted together with the tensor. They stay in memory if the file would exceed the process's
    limit on file sizes or half of the free disk space.

    Args:
        network: in eval mode. An empty `nn.Sequential` returns the images themselves.
        images: `[n, 3, h, w]`, or whatever inputs `[n, ...]` the network accepts.
        precision: "float32" runs the network as it is, "bfloat16" under `torch.autocast`.

    Returns:
        Features `[n, ...]`. With "bfloat16" they have the dtype of the images.

    Raises:
        ValueError: if there are no images, or for an unknown precision.
    """
    if precision not in get_args(Precision):
        raise ValueError(f'unknown precision "{precision}": use "float32" or "bfloat16"')
    if not len(images):
        raise ValueError("no images were given, but at least one is needed")
    rows, layers = images, list(flatten_sequential(network))
    if layers and precision == "bfloat16":
        with torch.autocast(images.device.type, torch.bfloat16):
            rows, done = _run_until_small(layers, rows, images.dtype)
        del layers[:done]
    while layers:
        rows, done = _run_until_small(layers, rows)
        del layers[:done]
    return rows


def _run_until_small(
    layers: Sequence[nn.Module], rows: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, int]:
    """Run rows through layers until the outputs are at most a quarter of the size of the rows.

    Args:
        layers: applied one after the other.
        rows: `[n, ...]`.
        dtype: the dtype to store outputs in, by default the one that the layers return.

    Returns:
        The outputs `[n, ...]`, and the number of layers that were applied.
    """
    stored, last = rows, len(layers)
    for number, batch in enumerate(batches(rows)):
        outputs = channels_last(rows[batch])
        for count, layer in enumerate(layers[:last], start=1):
            outputs = layer(outputs)
            # The first batch decides where to stop. All batches run through the same layers.
            if number == 0 and _is_small(outputs, rows[batch]):
                last = count
                break
        if number == 0:
            stored = _allocate(len(rows), outputs if dtype is None else outputs.to(dtype))
        stored[batch] = outputs
    return stored, last


def _is_small(outputs: object, rows: Tensor) -> bool:
    """Return whether `outputs` has one entry per row and at most a quarter as many numbers."""
    if not isinstance(outputs, Tensor) or len(outputs) != len(rows):
        return False
    return 4 * outputs.numel() <= rows.numel()


def _allocate(count: int, like: Tensor) -> Tensor:
    """Return an empty tensor for `count` rows with the dtype, device and layout of `like`."""
    shape = (count, *like.shape[1:])
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or size <= _MAX_BYTES_IN_MEMORY or not _fits_on_disk(size):
        is_channels_last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if is_channels_last else torch.contiguous_format
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
    handle, path = tempfile.mkstemp()
    os.close(handle)
    try:
        flat = torch.from_file(path, shared=True, size=math.prod(shape), dtype=like.dtype)
    finally:
        # The mapping keeps the data. Without a name, the file disappears with the tensor, or with
        # the process if that is killed.
        os.unlink(path)
    if like.dim() == 4:
        n, c, h, w = shape
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(shape)


def _fits_on_disk(size: int) -> bool:
    """Return whether a file of `size` bytes is allowed and takes under half of the free space."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    allowed = limit == resource.RLIM_INFINITY or size <= limit
    return allowed and size < shutil.disk_usage(tempfile.gettempdir()).free / 2


def pooled_encoder(backbone: Backbone) -> nn.Sequential:
    """Return everything in front of the backbone's head, followed by global average pooling.

    It maps images `[n, 3, h, w]` to features `[n, d]`: 4,096 for VGG-16, 2,048 for ResNet-50, 768
    for ViT-B/16. A backbone without a stage `head` is used whole. The modules are shared with it.
    """
    stages = [name for name in backbone.stages if name != "head"]
    return nn.Sequential(backbone.upto(stages[-1]), GlobalAveragePool())


class GlobalAveragePool(nn.Module):
    """Average maps `[n, c, h, w]` or tokens `[n, t, c]` over positions; vectors `[n, c]` pass."""

    def forward(self, features: Tensor) -> Tensor:
        match features.dim():
            case 4:
                return features.mean(dim=(2, 3))
            case 3:
                return features.mean(dim=1)
            case _:
                return features
