"""Images through networks that are not trained: once, in batches and a precision that suit."""

from __future__ import annotations

import math
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from attnbench.adaptation.bfloat16 import in_bfloat16, layers_of, pays_in_bfloat16
from attnbench.adaptation.large import with_large_layers
from attnbench.backbones.backbone import Backbone

# How much of a tensor goes through a network at once. On a CPU what fits its caches is quickest: 8
# images of 224 pixels, of which the first layers make twenty times as much (16 take 1.4 times as long,
# each), but more of features, of which the next layers make as much again. A GPU wants to be filled.
_IMAGES_ON_CPU, _FEATURES_ON_CPU, _ON_GPU = 5 << 20, 25 << 20, 256 << 20

# More than this of features goes to a file, so that a CPU's memory holds them but for what is in use.
_BYTES_IN_MEMORY = 256 << 20


def batches(rows: Tensor) -> Iterator[slice]:
    """Slices that cut the first dimension of images or features into pieces that suit their device."""
    are_images = rows.dim() == 4 and rows.shape[1] == 3
    on_cpu = _IMAGES_ON_CPU if are_images else _FEATURES_ON_CPU
    at_once = _ON_GPU if rows.device.type == "cuda" else on_cpu
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

    Where little is left of an image, as before the large last layers of VGG, all that is left is kept
    and goes on in larger batches: to read such a layer's weights takes longer than to multiply by them.

    Outputs of more than 256 MiB on a CPU are mapped from a file that has no name and goes with them,
    if a file may be as large as that.

    Args:
        network: in eval mode. An empty `nn.Sequential` gives the images themselves.
        images: `[n, 3, h, w]`, or what comes before `network`, `[n, ...]`.

    Returns:
        Its outputs, `[n, ...]`. Raises ValueError where there are no images.
    """
    if not len(images):
        raise ValueError("there are no images")
    rows, layers = images, list(with_large_layers(network))
    while layers:
        rows, done = _until_little_is_left(layers, rows)
        del layers[:done]
    return rows


def _until_little_is_left(
    layers: Sequence[nn.Module], rows: Tensor, kept_in: torch.dtype | None = None
) -> tuple[Tensor, int]:
    """Rows through layers, until a row's outputs are a quarter of it; these, and how many layers.

    They are kept in the dtype that the layers give, or in `kept_in`.
    """
    kept, last = rows, len(layers)
    for n, batch in enumerate(batches(rows)):
        outputs = channels_last(rows[batch])
        for count, layer in enumerate(layers[:last], start=1):
            outputs = layer(outputs)
            if n == 0 and _is_little(outputs, rows[batch]):
                last = count
                break
        if n == 0:
            kept = _room_for(len(rows), outputs if kept_in is None else outputs.to(kept_in))
        kept[batch] = outputs
    return kept, last


def _is_little(outputs: object, rows: Tensor) -> bool:
    """Whether they are rows themselves, each of a quarter of the bytes at most."""
    if not isinstance(outputs, Tensor) or len(outputs) != len(rows):
        return False
    return 4 * outputs.nbytes <= rows.nbytes


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


@torch.no_grad()
def quick_outputs(network: nn.Module, images: Tensor) -> Tensor:
    """As `frozen_outputs`, computed in bfloat16 where that pays: half of the time or less.

    It does on a GPU, or a CPU, with units for it, and from 5 million parameters on (see
    `pays_in_bfloat16`), until little is left of an image; all else is in the network's own precision.
    A value in bfloat16 has 8 bits, an error of up to 0.4 %; a network in which less than that decides
    something, such as which of two places is looked at, is for `frozen_outputs`.

    Returns:
        Its outputs `[n, ...]`, in the images' dtype. Raises ValueError where there are no images.
    """
    if not pays_in_bfloat16(network, images.device):
        return frozen_outputs(network, images)
    layers = list(layers_of(network))
    outputs, done = _until_little_is_left(in_bfloat16(layers), images, images.dtype)
    return frozen_outputs(nn.Sequential(*layers[done:]), outputs)


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
