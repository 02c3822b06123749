"""Shipped submissions run in this process, and the artefacts that they deliver."""

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
from torchvision import models
from torchvision.models import VisionTransformer

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.imagenet import WNIDS
from attnbench.backbones.torchvision_models import stages_of
from attnbench.judge.parameter_count import ArtefactSize, ParameterCounter
from attnbench.resources import submissions_folder
from attnbench.sandbox.packing import ArtefactPacker
from attnbench.sandbox.unpacking import unpack
from attnbench.submission import load_submission


@dataclass(frozen=True)
class Adapted:
    """The result of an adaptation.

    Attributes:
        detector: as `adapt` returned it.
        backbone: as `adapt` left it.
        size: of the artefact.
        delivered: the detector after packing and unpacking, on another copy of the backbone.
    """

    detector: nn.Module
    backbone: Backbone
    size: ArtefactSize
    delivered: nn.Module


def load_program(name: str) -> ModuleType:
    """Import the `submission.py` of a shipped submission."""
    path = submissions_folder() / name / "submission.py"
    spec = importlib.util.spec_from_file_location(f"submission_of_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Pickling a detector imports its classes by the name of their module.
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def adapt_submission(
    name: str, backbone: Backbone, pos: Tensor, neg: Tensor, **overrides: Any
) -> Adapted:
    """Adapt a copy of a backbone with a shipped submission.

    Args:
        name: of the submission.
        backbone: stays as it is.
        pos, neg: images `[n, 3, h, w]`.
        overrides: hyperparameters that replace those of its manifest.
    """
    handed_out, backbone = backbone, copy.deepcopy(backbone)
    submission = load_submission(name)
    packer = ArtefactPacker(backbone)
    torch.manual_seed(0)
    hyperparameters = submission.hyperparameters_for(backbone.name) | overrides
    detector = load_program(name).adapt(backbone, pos, neg, **hyperparameters).eval()
    artefact = packer.pack(detector, submissions_folder() / name)
    size = ParameterCounter(handed_out).measure(artefact, submission.program)
    delivered = unpack(artefact, copy.deepcopy(handed_out)).eval()
    return Adapted(detector, backbone, size, delivered)


@functools.lru_cache
def random_backbone(name: str, target: int | None = 3) -> Backbone:
    """Return an untrained backbone in which no weight has its initial value."""
    backbone = load(name, untrained=True)
    backbone.target = target if backbone.labels else None
    return _without_initial_values(backbone)


@functools.lru_cache
def random_vit_b_16() -> Backbone:
    """Return a random ViT-B/16 for images of 64 pixels, which are quicker than those of 224."""
    torch.manual_seed(0)
    model = models.vit_b_16(image_size=64)
    return _without_initial_values(_vit("torchvision/vit_b_16", model, WNIDS))


@functools.lru_cache
def small_vit() -> Backbone:
    """Return a vision transformer of three blocks with 16 channels, for images of 32 pixels."""
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5,
    )  # fmt: skip
    nn.init.normal_(model.heads[0].weight)  # zeros in torchvision
    return _vit("test/vit", model, tuple("abcde"))


def _vit(name: str, model: VisionTransformer, labels: tuple[str, ...]) -> Backbone:
    """Return a vision transformer as a backbone with a target."""
    size, half = model.image_size, (0.5, 0.5, 0.5)
    backbone = Backbone(
        stages_of(name, model, size),
        name=name,
        labels=labels,
        preprocessing=Preprocessing(size=size, resize=size, mean=half, std=half),
    )
    backbone.target = 3
    return backbone


def _without_initial_values(backbone: Backbone) -> Backbone:
    """Add noise to all weights of a backbone, in place, and return it."""
    generator = torch.Generator().manual_seed(0)
    for parameter in backbone.parameters():
        parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return backbone


def noise_images(
    backbone: Backbone, count: int, seed: int = 0, size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return white noise for positives and negatives, with the positives a little brighter.

    Args:
        backbone: the images are for it.
        count: the number of positives, and of negatives.
        seed: of the noise.
        size: in pixels; the backbone's by default.

    Returns:
        Positives and negatives, `[count, 3, size, size]` each.
    """
    size = size or backbone.preprocessing.size
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2 * count, 3, size, size, generator=generator)
    return images[:count] + 0.5, images[count:]
