"""A shipped submission adapted in this process, and what its artefact then holds."""

from __future__ import annotations

import copy
import functools
import importlib.util
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.torchvision_models import stages_of
from attnbench.sandbox.packing import ArtefactPacker, unpack
from attnbench.judge.parameter_count import Inventory, Size
from attnbench.resources import submissions_folder
from attnbench.submission import load_submission


@dataclass(frozen=True)
class Adapted:
    """What came of adapting.

    Attributes:
        detector: as `adapt` returned it.
        backbone: as `adapt` left it.
        size: what the artefact counts.
        delivered: the detector after packing and unpacking, on another copy of the backbone.
    """

    detector: nn.Module
    backbone: Backbone
    size: Size
    delivered: nn.Module


def module_of(name: str) -> ModuleType:
    """The module `submission.py` of a shipped submission."""
    path = submissions_folder() / name / "submission.py"
    spec = importlib.util.spec_from_file_location(f"submission_of_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def adapted(name: str, backbone: Backbone, pos: Tensor, neg: Tensor, **other: Any) -> Adapted:
    """Adapt the shipped submission `name` to a copy of `backbone`.

    With its own hyperparameters but for `other`.
    """
    as_handed_out, backbone = backbone, copy.deepcopy(backbone)
    submission = load_submission(name)
    packer = ArtefactPacker(backbone)
    torch.manual_seed(0)
    settings = submission.hyperparameters_for(backbone.name) | other
    detector = module_of(name).adapt(backbone, pos, neg, **settings).eval()
    artefact = packer.pack(detector, submissions_folder() / name)
    size = Inventory(as_handed_out).measure(artefact, submission.program)
    return Adapted(detector, backbone, size, unpack(artefact, copy.deepcopy(as_handed_out)).eval())


@functools.lru_cache
def random_backbone(name: str, target: int | None = 3) -> Backbone:
    """The backbone `name` with weights that no layer's initial ones are equal to."""
    backbone = load(name, untrained=True)
    backbone.target = target if backbone.labels else None
    generator = torch.Generator().manual_seed(0)
    for parameter in backbone.parameters():
        parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return backbone


@functools.lru_cache
def small_vit() -> Backbone:
    """A vision transformer of three blocks with 16 channels, for images of 32 pixels."""
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5,
    )  # fmt: skip
    nn.init.normal_(model.heads[0].weight)  # torchvision has zeros there
    half = (0.5, 0.5, 0.5)
    backbone = Backbone(
        stages_of("vit", model, model.image_size),
        name="test/vit",
        labels=tuple("abcde"),
        preprocessing=Preprocessing(size=32, resize=32, mean=half, std=half),
    )
    backbone.target = 3
    return backbone


def images(
    backbone: Backbone, count: int, seed: int = 0, size: int | None = None
) -> tuple[Tensor, Tensor]:
    """White noise for both sides, `[count, 3, size, size]`, the positives a little brighter.

    Of the backbone's own size where none is given.
    """
    size = size or backbone.preprocessing.size
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2 * count, 3, size, size, generator=generator)
    return both[:count] + 0.5, both[count:]
