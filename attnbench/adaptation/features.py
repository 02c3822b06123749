"""Images through networks that are not trained: once, in batches that suit the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone

# How much of a tensor goes through a network at once. On a CPU what fits its caches is quickest (16
# images of 224 pixels take 0.7 of the time that 64 do), a GPU wants to be filled.
_BYTES_AT_ONCE = {"cpu": 10 << 20, "cuda": 256 << 20}


def batches(rows: Tensor) -> Iterator[slice]:
    """Slices that cut the first dimension of `rows` into pieces that suit its device."""
    size = max(1, rows[:1].numel() * rows.element_size())
    step = max(1, _BYTES_AT_ONCE.get(rows.device.type, 10 << 20) // size)
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def channels_last(images: Tensor) -> Tensor:
    """The same images `[n, c, h, w]`, laid out as a CPU's convolutions want them (2 x as fast)."""
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def frozen_outputs(network: nn.Module, images: Tensor) -> Tensor:
    """What a network that is not trained makes of images: once, in batches, without gradients.

    Args:
        network: in eval mode.
        images: `[n, 3, h, w]`.

    Returns:
        Its outputs, `[n, ...]`.
    """
    return torch.cat([network(channels_last(images[rows])) for rows in batches(images)])


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


def stages_with_maps(backbone: Backbone, image: Tensor) -> dict[str, torch.Size]:
    """The stages that give maps `[c, h, w]` or tokens `[t, c]`, in their order, with these shapes.

    Args:
        backbone: is run on it once.
        image: `[1, 3, h, w]`.
    """
    shapes = {}
    with torch.no_grad():
        for name in backbone.stages:
            image = backbone.stage(name)(image)
            if image.dim() in (3, 4):
                shapes[name] = image.shape[1:]
    return shapes
