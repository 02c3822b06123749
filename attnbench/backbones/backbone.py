"""A trained network as a sequence of named stages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes what the network was trained on.

    The shorter side is resized to `resize` pixels (bilinear, antialiased), the centre `size` x `size`
    is cut out, pixels are scaled to [0, 1], and (pixel - mean) / std is taken per channel. A task's
    generators act between scaling and normalising.
    """

    size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Backbone(nn.Sequential):
    """A classifier or encoder as named stages; calling it runs them all.

    Input: float32 `[n, 3, H, W]`, normalised as `preprocessing` says. Output: logits
    `[n, len(labels)]`, or an embedding `[n, d]` where `labels` is None (self-supervised networks).

    Attributes:
        name: as on the command line, such as `torchvision/vgg16`.
        labels: the names of the outputs, or None.
        target: the target's index among `labels`, or None where the target is new to the network.
        preprocessing: what was done to the pictures.
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        *,
        name: str,
        labels: tuple[str, ...] | None,
        preprocessing: Preprocessing,
    ) -> None:
        super().__init__()
        for stage, module in stages.items():
            self.add_module(stage, module)
        self.name = name
        self.labels = labels
        self.preprocessing = preprocessing
        self.target: int | None = None
        self.requires_grad_(False)
        self.eval()

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages' names, from the input to the output."""
        return tuple(self._modules)

    def stage(self, name: str) -> nn.Module:
        """The stage called `name`. Raises ValueError for an unknown one."""
        self._position(name)
        return self.get_submodule(name)

    def upto(self, name: str) -> nn.Sequential:
        """The stages from the input to `name`, itself included. Shares the modules."""
        return nn.Sequential(*list(self.children())[: self._position(name) + 1])

    def after(self, name: str) -> nn.Sequential:
        """The stages behind `name`, to the output. Shares the modules."""
        return nn.Sequential(*list(self.children())[self._position(name) + 1 :])

    def _position(self, name: str) -> int:
        if name not in self.stages:
            known = ", ".join(self.stages)
            raise ValueError(f"{self.name} has no stage {name!r}; its stages are {known}")
        return self.stages.index(name)


def tensors_of(backbone: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by its qualified name, non-persistent buffers included."""
    return dict(backbone.named_parameters()) | dict(backbone.named_buffers())


def fingerprint(backbone: nn.Module) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors_of(backbone).items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
