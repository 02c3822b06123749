"""A trained network as a sequence of named stages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import torch
from torch import Tensor, nn

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture is turned into an image for the network.

    The shorter side is resized to `resize` pixels (antialiased) and the central `size` x `size`
    pixels are cropped. Pixels are scaled to [0, 1], then normalised per channel to
    (pixel - mean) / std. A task's stimulus generator acts after scaling and before normalisation.

    Attributes:
        size: height and width of the image, in pixels.
        resize: length of the shorter side before cropping, in pixels.
        mean: subtracted from each RGB channel, in units of pixels in [0, 1].
        std: divides each RGB channel, in the same units.
        interpolation: how pictures are resized.
    """

    size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bilinear"


class Backbone(nn.Sequential):
    """A frozen classifier or encoder as named stages. Calling it runs all stages in order.

    It takes float32 images `[n, 3, H, W]`, normalised as described by `preprocessing`. It returns
    logits `[n, len(labels)]`, or embeddings `[n, d]` if `labels` is None (self-supervised networks).

    Args:
        stages: the modules by stage name, in the order in which they run.
        name: the name used on the command line, such as `torchvision/vgg16`.
        labels: the class name of each output, or None for a network without a label space.
        preprocessing: how pictures are prepared for this network.

    Attributes:
        name: as above.
        labels: as above.
        preprocessing: as above.
        target: the target's index in `labels`, or None if the target is new to the network. The
            evaluator sets it for each episode.
        definition: what identifies a backbone of one's own besides its tensors, as a hash of its
            settings and code (see `attnbench.backbones.own_file`). Empty for all other backbones.
    """

    # A class attribute, so that other backbones do not carry it when they are pickled.
    definition = ""

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
        """The names of the stages, from input to output."""
        return tuple(self._modules)

    def stage(self, name: str) -> nn.Module:
        """Return the module of the stage called `name`.

        Raises:
            ValueError: if there is no such stage.
        """
        self._index(name)
        return self.get_submodule(name)

    def upto(self, name: str) -> nn.Sequential:
        """Return the stages from the input up to and including `name`. The modules are shared.

        Raises:
            ValueError: if there is no such stage.
        """
        return nn.Sequential(*list(self.children())[: self._index(name) + 1])

    def after(self, name: str) -> nn.Sequential:
        """Return the stages after `name`, up to the output. The modules are shared.

        Raises:
            ValueError: if there is no such stage.
        """
        return nn.Sequential(*list(self.children())[self._index(name) + 1 :])

    def output_shapes(self, images: Tensor) -> dict[str, torch.Size]:
        """Return the output shape of every module that a layer can be inserted after.

        These are the modules, at any depth, that run exactly once in a forward pass and return one
        tensor. For example, attention layers that return a tuple are left out.

        Args:
            images: `[n, 3, H, W]`. The backbone runs on them once, without gradients.

        Returns:
            The shape without the batch dimension, `[c, h, w]` for maps or `[t, c]` for tokens, by the
            module's name as in `named_modules`, in the order in which the modules finish.
        """
        outputs: dict[str, list[object]] = {}
        names = {module: name for name, module in self.named_modules() if name}

        def keep(module: nn.Module, _: object, output: object) -> None:
            shape = output.shape[1:] if isinstance(output, Tensor) and output.dim() else None
            outputs.setdefault(names[module], []).append(shape)

        hooks = [module.register_forward_hook(keep) for module in names]
        try:
            with torch.no_grad():
                self(images)
        finally:
            for hook in hooks:
                hook.remove()
        return {
            name: shapes[0]
            for name, shapes in outputs.items()
            if len(shapes) == 1 and isinstance(shapes[0], torch.Size)
        }

    def insert_after(self, name: str, layer: nn.Module) -> None:
        """Put a layer behind a module, at any depth: between stages or inside one.

        The module is replaced by a sequence of itself and the layer, so a skip connection around the
        module goes around the layer too. Its tensors are the same objects as before.

        Args:
            name: one of `output_shapes`. A layer behind any other module may never run.
            layer: takes the module's output and returns a tensor of the same shape.

        Raises:
            ValueError: if there is no such module.
        """
        modules = dict(self.named_modules(remove_duplicate=False))
        if not name or name not in modules:
            similar = ", ".join(get_close_matches(name, modules, n=3, cutoff=0.4)) or "none"
            raise ValueError(
                f"{self.name} has no module {name!r} (similar names: {similar}); "
                "`output_shapes` lists the modules"
            )
        followed = nn.Sequential(modules[name], layer)
        # A module may be registered in several places, and run in any of them.
        for place, module in modules.items():
            if module is modules[name]:
                self.set_submodule(place, followed)

    def _index(self, name: str) -> int:
        if name not in self.stages:
            stages = ", ".join(self.stages)
            raise ValueError(f"{self.name} has no stage {name!r}; its stages are {stages}")
        return self.stages.index(name)


def tensors_of(backbone: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by qualified name, including non-persistent buffers."""
    return dict(backbone.named_parameters()) | dict(backbone.named_buffers())


def fingerprint(backbone: nn.Module) -> str:
    """Return the SHA-256 (hex) of the names, dtypes, shapes and bytes of all parameters and buffers.

    Tensors are hashed in the order of their names, so the order of registration does not matter. The
    `definition` of a backbone of one's own is hashed too: other settings or code make another backbone.
    """
    digest = hashlib.sha256()
    if isinstance(backbone, Backbone):
        digest.update(backbone.definition.encode())
    for name, tensor in sorted(tensors_of(backbone).items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        # Hashed as raw bytes: NumPy has no bfloat16, so `numpy()` would fail on such a tensor.
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
