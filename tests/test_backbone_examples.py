"""The shipped examples of backbones, used as a user does: copied, with weights, and checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from made_up_networks import copy_examples, outputs_of, trained
from torch import nn
from torchvision import models

import attnbench
from attnbench.backbones import load
from attnbench.backbones.own_file import files_of, name_in_records
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import open_judge

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

SKIP_STAGES = ("stem_0", "first", "wide", "pool", "head")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the shipped examples."""
    return copy_examples(tmp_path)


def skip_network(examples: Path) -> nn.Module:
    namespace: dict[str, Any] = {}
    exec((examples / "skip_network.py").read_text(), namespace)
    return trained(namespace["make"]())


def check(backbone: Path, submission: str) -> None:
    report = attnbench.check(submission, backbone=str(backbone))
    assert report.ok and not report.main.not_applicable, report.problems
    assert report.backbone == f"own/{backbone.stem}"


def test_a_resnet_fine_tuned_to_five_classes(examples: Path) -> None:
    network = trained(models.resnet18(num_classes=5))
    torch.save(network.state_dict(), examples / "resnet18_five_classes.pth")
    backbone = load(str(examples / "resnet18_five_classes.toml"))
    assert backbone.labels == ("robin", "wren", "jay", "magpie", "goldfinch")
    assert backbone.stages == ("stem", "layer1", "layer2", "layer3", "layer4", "pool", "head")
    assert torch.equal(outputs_of(backbone, 224), outputs_of(network, 224))
    check(examples / "resnet18_five_classes.toml", "attention")


def test_a_vision_transformer_without_labels(examples: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs attnbench[timm]")
    network = trained(timm.create_model("vit_tiny_patch16_224", num_classes=0))
    safetensors.torch.save_file(network.state_dict(), examples / "vit_without_labels.safetensors")
    backbone = load(str(examples / "vit_without_labels.toml"))
    assert backbone.labels is None and backbone.stages[-1] == "norm"
    assert backbone.preprocessing.interpolation == "bicubic"
    assert torch.equal(outputs_of(backbone, 224), outputs_of(network, 224))
    check(examples / "vit_without_labels.toml", "linear_probe")


def test_the_image_encoder_of_a_clip(examples: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs attnbench[timm]")
    network = trained(timm.create_model("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"))
    image_encoder = {
        f"visual.trunk.{name}": tensor for name, tensor in network.state_dict().items()
    }
    text_encoder = {"logit_scale": torch.ones(()), "transformer.resblocks.0.bias": torch.ones(3)}
    torch.save({"state_dict": image_encoder | text_encoder}, examples / "clip_image_encoder.pth")
    backbone = load(str(examples / "clip_image_encoder.toml"))
    assert backbone.labels is None and outputs_of(backbone, 224).shape == (2, 512)
    assert torch.equal(outputs_of(backbone, 224), outputs_of(network, 224))
    check(examples / "clip_image_encoder.toml", "linear_probe")


def test_a_network_of_ones_own_with_a_skip_connection(examples: Path) -> None:
    network = skip_network(examples)
    torch.save(network.state_dict(), examples / "skip_network.pth")
    backbone = load(str(examples / "skip_network.toml"))
    assert backbone.stages == ("stem", "residual", "wide", "head")
    assert backbone.labels == ("cat", "dog", "rabbit")
    assert torch.equal(outputs_of(backbone, 64), outputs_of(network, 64))
    check(examples / "skip_network.toml", "full_finetune")


def test_a_checkpoint_of_a_compiled_network(examples: Path) -> None:
    network = skip_network(examples)
    torch.save(torch.compile(network).state_dict(), examples / "compiled.pth")
    backbone = load(str(examples / "compiled.toml"))
    assert backbone.stages == SKIP_STAGES
    assert torch.equal(outputs_of(backbone, 64), outputs_of(network, 64))
    check(examples / "compiled.toml", "attention")


def test_a_data_parallel_checkpoint_with_an_average(examples: Path) -> None:
    network = skip_network(examples)
    average = nn.DataParallel(network).state_dict()
    last = {name: torch.zeros_like(tensor) for name, tensor in average.items()}
    optimiser = torch.optim.SGD(network.parameters(), 0.1).state_dict()
    checkpoint = {"model": last, "model_ema": average, "optimizer": optimiser}
    torch.save(checkpoint, examples / "data_parallel.pth")
    backbone = load(str(examples / "data_parallel.toml"))
    assert torch.equal(outputs_of(backbone, 64), outputs_of(network, 64))
    check(examples / "data_parallel.toml", "attention")


def test_every_example_is_in_the_table_and_loads_untrained(examples: Path) -> None:
    readme = (examples / "README.md").read_text()
    for file in examples.glob("*.toml"):
        assert f"`{file.name}`" in readme
        assert load(str(file), untrained=True).name == f"own/{file.stem}"


def test_a_function_is_named_directly(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples)
    backbone = load("skip_network.py:make")
    assert backbone.name == name_in_records("skip_network.py:make") == "own/skip_network-make"
    assert backbone.labels is None and backbone.stages == SKIP_STAGES
    assert backbone.preprocessing.size == 224 and backbone.preprocessing.resize == 256
    report = attnbench.check("linear_probe", backbone="skip_network.py:make")
    assert report.ok, report.problems


def test_a_package_offers_backbones(examples: Path, tmp_path: Path) -> None:
    package = tmp_path / "site" / "birds"
    package.mkdir(parents=True)
    for file in ("skip_network.py", "skip_network.toml"):
        shutil.copy(examples / file, package)
    (package / "__init__.py").touch()
    metadata = tmp_path / "site" / "birds-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: birds\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[attnbench.backbones]\nbird_net = birds.skip_network:make\nskip_network = birds\n"
    )
    code = (
        "from attnbench.backbones import load\n"
        "for name in ('bird_net', 'skip_network'):\n"
        "    backbone = load(name, untrained=True)\n"
        "    print(backbone.name, len(backbone.stages), backbone.labels is None)\n"
        "import attnbench; print(attnbench.check('linear_probe', backbone='bird_net').ok)"
    )
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    expected = ["own/bird_net 5 True", "own/skip_network 4 False", "True"]
    assert process.stdout.splitlines() == expected, process.stderr


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_the_fork_server_reads_the_files_in_bubblewrap(examples: Path, tmp_path: Path) -> None:
    torch.save(skip_network(examples).state_dict(), examples / "skip_network.pth")
    name = str(examples / "skip_network.toml")
    # Also where they lie in a folder that is hidden from workers, such as the data folder.
    for hidden in ((), (tmp_path,)):
        conditions = Conditions(isolation="bwrap", hidden=hidden, backbone_files=files_of(name))
        with open_judge(conditions) as judge:
            judge.evaluator(name)
