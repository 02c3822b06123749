"""Shared by the tests: a small backbone, and a folder to write submissions into."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from attnbench.backbones.backbone import Backbone, Preprocessing

MANIFEST = """
name = "{name}"
title = "{name}"
authors = ["A. Tester"]
licence = "MIT"
paper = "none"
description = "made up by a test"
"""


def small_backbone(labels: tuple[str, ...] | None = ("a", "b", "c")) -> Backbone:
    """Three stages, deterministic weights, 16 px."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stages = {
            "block1": nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            "block2": nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            "head": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)),
        }
    half = (0.5, 0.5, 0.5)
    return Backbone(
        stages,
        name="test/small",
        labels=labels,
        preprocessing=Preprocessing(size=16, resize=16, mean=half, std=half),
    )


@pytest.fixture
def backbone() -> Backbone:
    return small_backbone()


@pytest.fixture
def submission_folder(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a submission: its name and the text of its submission.py."""

    def write(name: str, code: str) -> Path:
        folder = tmp_path / "submissions" / name
        folder.mkdir(parents=True)
        (folder / "submission.toml").write_text(MANIFEST.format(name=name), encoding="utf-8")
        (folder / "submission.py").write_text(textwrap.dedent(code), encoding="utf-8")
        return folder

    return write
