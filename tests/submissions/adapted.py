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

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.evaluation.artefact import ArtefactPacker, unpack
from attnbench.evaluation.inventory import Inventory, Size
from attnbench.resources import submissions_folder
from attnbench.submission import load_submission


@dataclass(frozen=True)
class Adapted:
    """A detector as `adapt` returned it, what it counts, and the same after packing and unpacking."""

    detector: nn.Module
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
    return Adapted(detector, size, unpack(artefact, copy.deepcopy(as_handed_out)).eval())


@functools.lru_cache
def random_backbone(name: str, target: int | None = 3) -> Backbone:
    """The backbone `name` with weights that no layer's initial ones are equal to."""
    backbone = load(name, untrained=True)
    backbone.target = target if backbone.labels else None
    generator = torch.Generator().manual_seed(0)
    for parameter in backbone.parameters():
        parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return backbone


def images(backbone: Backbone, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """White noise for both sides, `[count, 3, size, size]`, the positives a little brighter."""
    size = backbone.preprocessing.size
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2 * count, 3, size, size, generator=generator)
    return both[:count] + 0.5, both[count:]
