"""Published weights: found in the caches of torch and the hub, and explained if they are damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from made_up_networks import trained
from torchvision import models

import attnbench
from attnbench.backbones import load
from attnbench.errors import AttnbenchError


@pytest.mark.parametrize(("content", "problem"), [(b"", "is empty"), (b"<html>", "is a web page")])
def test_a_damaged_download_is_named(
    content: bytes, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(content)
    with pytest.raises(AttnbenchError) as error:
        load("torchvision/squeezenet1_1")
    assert f"{folder}/squeezenet1_1-b8a52dc0.pth {problem}" in str(error.value)
    assert "delete it, and it is downloaded again from https://" in str(error.value)


def test_a_download_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    trained = models.squeezenet1_1().eval()
    torch.save(trained.state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load("torchvision/squeezenet1_1")(images), trained(images))


def test_workers_find_weights_in_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    state = trained(models.squeezenet1_1()).state_dict()
    torch.save(state, tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    assert attnbench.check("none", backbone="torchvision/squeezenet1_1").ok


def hub_cache(folder: Path, repository: str, content: bytes) -> Path:
    """A cache of the hub with one file of weights, as huggingface_hub lays it out."""
    model = folder / f"models--{repository.replace('/', '--')}"
    for name in ("blobs", "refs", "snapshots/abc"):
        (model / name).mkdir(parents=True)
    (model / "blobs" / "123").write_bytes(content)
    (model / "refs" / "main").write_text("abc")
    (model / "snapshots" / "abc" / "model.safetensors").symlink_to("../../blobs/123")
    return model / "blobs" / "123"


@pytest.mark.parametrize("isolation", ["process", pytest.param("bwrap", marks=pytest.mark.slow)])
def test_weights_of_timm_are_found_in_the_cache_of_the_hub(isolation: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs attnbench[timm]")
    if isolation == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    network = trained(timm.create_model("vit_tiny_patch16_224"))
    repository = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    hub_cache(tmp_path, repository, safetensors.torch.save(network.state_dict()))
    code = (
        "import torch; from attnbench.judge.conditions import Conditions\n"
        "from attnbench.judge.judge import open_judge\n"
        f"with open_judge(Conditions(isolation={isolation!r})) as judge:\n"
        "    judge.evaluator('timm/vit_tiny_patch16_224')\n"
        "    print(judge.resources.backbone('timm/vit_tiny_patch16_224').stage('head').bias.sum())"
    )
    # A fresh process, because huggingface_hub reads its settings when it is imported.
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert process.stdout.strip() == str(network.head.bias.detach().sum()), process.stderr


def test_without_a_network_timm_fails_at_once_and_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs attnbench[timm]")
    for setting in (
        {"HF_ENDPOINT": "http://127.0.0.1:9"},  # nobody listens there
        {"HF_HUB_OFFLINE": "1"},
    ):
        started = time.monotonic()
        process = subprocess.run(
            [
                sys.executable,
                "-m",
                "attnbench",
                "check",
                "none",
                "--backbone",
                "timm/resnet18.a1_in1k",
            ],
            env=os.environ | {"HF_HUB_CACHE": str(tmp_path), **setting},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 2 and time.monotonic() - started < 30
        message = " ".join(process.stderr.split())
        assert message.count("the hub cannot be reached for timm/resnet18.a1_in1k") == 1
        assert "Retrying" not in message and "Traceback" not in message


def test_a_damaged_file_in_the_cache_of_the_hub_is_named(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs attnbench[timm]")
    blob = hub_cache(tmp_path, "timm/resnet18.a1_in1k", b"<html>log in</html>")
    process = subprocess.run(
        [sys.executable, "-m", "attnbench", "check", "none", "--backbone", "timm/resnet18.a1_in1k"],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    message = " ".join(process.stderr.split())
    assert process.returncode == 2 and "is a web page" in message and "delete it" in message
    assert blob.name in message and "Traceback" not in message
