"""`attnbench new`: the submission it creates runs as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.commands.new import new
from attnbench.errors import AttnbenchError
from attnbench.submission import load_submission


def test_created_folder_is_a_submission(tmp_path: Path) -> None:
    folder = new("my-method", tmp_path)
    assert folder == tmp_path / "my-method"
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "submission.py",
        "submission.toml",
    ]
    assert load_submission(folder).name == "my-method"
    assert not any("@NAME@" in p.read_text() for p in folder.iterdir())


@pytest.mark.parametrize("target", [None, 3])
def test_created_adapt_returns_a_working_detector(tmp_path: Path, target: int | None) -> None:
    folder = new("mine", tmp_path)
    spec = importlib.util.spec_from_file_location("created_submission", folder / "submission.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    torch.manual_seed(0)
    backbone = Backbone(
        {"block": nn.Conv2d(3, 8, 3), "pool": nn.AdaptiveAvgPool2d(2), "head": nn.Flatten()},
        name="test/tiny",
        labels=None,
        preprocessing=Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )
    backbone.target = target
    neg = torch.randn(20, 3, 8, 8)
    pos = torch.randn(20, 3, 8, 8) + torch.tensor([2.0, -1.0, 0.5]).reshape(3, 1, 1)
    hyperparameters = load_submission(folder).hyperparameters_for(backbone.name)
    detector = module.adapt(backbone, pos, neg, **hyperparameters)
    with torch.no_grad():
        assert (detector(pos) > 0).float().mean() > 0.8
        assert (detector(neg) > 0).float().mean() < 0.2
        assert detector(pos).shape == (20,)


def test_the_name_of_a_shipped_submission_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match="there is a submission attention"):
        new("attention", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    with pytest.raises(AttnbenchError, match="exists already"):
        new("mine", tmp_path)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "-x", ".x", "_x", "é", "x" * 65, "a\n"])
def test_invalid_name_is_an_error_and_creates_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(AttnbenchError, match="is not a valid name for a submission"):
        new(name, tmp_path)
    assert not list(tmp_path.iterdir())
