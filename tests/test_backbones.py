"""Backbones: cutting a network into stages changes nothing of it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import small_backbone
from torchvision import models

from attnbench.backbones import Backbone, fingerprint, load
from attnbench.backbones.shipped import SHIPPED
from attnbench.errors import AttnbenchError

DATA = Path(__file__).parents[2] / "shared" / "data"
NETWORKS = ["squeezenet1_1", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "alexnet"]
LARGE = ["vgg16", "vit_b_16", "convnext_tiny", "efficientnet_b0", "resnet50"]


@pytest.mark.parametrize(
    "name", NETWORKS + [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]
)
def test_the_stages_in_a_row_are_the_network(name: str) -> None:
    backbone = load(f"torchvision/{name}", untrained=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = models.get_model(name, weights=None).eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(backbone(images), original(images))
    assert len(backbone.labels or ()) == 1000
    assert backbone.stages[-1] == "head"


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "shipped/digits-cnn"])
def test_a_backbone_is_frozen_and_in_eval_mode(name: str) -> None:
    backbone = load(name, untrained=True)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert backbone.target is None


def test_upto_and_after_make_the_whole(backbone: Backbone) -> None:
    images = torch.randn(2, 3, 16, 16)
    for stage in backbone.stages:
        parts = backbone.after(stage)(backbone.upto(stage)(images))
        assert torch.equal(parts, backbone(images))


def test_an_unknown_stage_is_named_with_the_known_ones(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"no stage 'block9'.*block1, block2, head"):
        backbone.upto("block9")


@pytest.mark.parametrize("name", ["vgg16", "shipped/none-such", "torchvision/none-such", "x/y"])
def test_an_unknown_backbone_is_a_users_mistake(name: str) -> None:
    with pytest.raises(AttnbenchError, match=name.split("/")[-1]):
        load(name, untrained=True)


def test_what_is_no_classifier_of_stages_says_so() -> None:
    with pytest.raises(AttnbenchError, match="cannot be cut into stages"):
        load("torchvision/googlenet", untrained=True)


def test_untrained_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    first = fingerprint(load("torchvision/squeezenet1_1", untrained=True))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert fingerprint(load("torchvision/squeezenet1_1", untrained=True)) == first


def test_a_fingerprint_sees_one_changed_scalar() -> None:
    changed = small_backbone()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(changed) != fingerprint(small_backbone())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "squeezenet1_1-wrong.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(AttnbenchError, match=r"squeezenet1_1-wrong.*does not hold"):
        load("torchvision/squeezenet1_1", data=tmp_path)


def test_a_stage_can_be_pickled() -> None:
    backbone = load("torchvision/squeezenet1_1", untrained=True)
    images = torch.randn(1, 3, 64, 64)
    copy = pickle.loads(pickle.dumps(backbone.stage("block1")))
    with torch.no_grad():
        assert torch.equal(copy(images), backbone.stage("block1")(images))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_small_and_say_where_they_come_from(name: str) -> None:
    from safetensors import safe_open

    from attnbench.backbones.pretraining.recipes import RECIPES
    from attnbench.resources import weights_folder

    file = weights_folder() / f"{name}.safetensors"
    assert file.stat().st_size <= 2 * 2**20
    with safe_open(file, "pt") as weights:
        assert weights.metadata()["recipe_sha256"] == RECIPES[name].sha256
    load(f"shipped/{name}")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder of real data, ../shared/data")
def test_real_weights_recognise_real_pictures() -> None:
    from attnbench.stimuli.episodes import TrackStimuli
    from attnbench.tasks import load_task

    backbone = load("torchvision/squeezenet1_1", data=DATA)
    track = load_task("imagenet-standard").tracks["small"]
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, DATA)
    episode = stimuli.episode("n01440764", 0)  # tench
    with torch.no_grad():
        answers = backbone(torch.from_numpy(episode.pos)).argmax(1)
    assert (answers == 0).float().mean() > 0.45


def test_figure_networks_know_the_figures_by_the_names_they_are_drawn_by() -> None:
    from attnbench.stimuli.figures import CLASSES, SIZE

    backbone = load("shipped/figures-vgg", untrained=True)
    assert backbone.labels == tuple(CLASSES) and backbone.preprocessing.size == SIZE


def test_a_process_with_a_backbone_in_it_knows_nothing_of_the_stimuli() -> None:
    code = (
        "import sys; from attnbench.evaluation.workers import template, worker\n"
        "from attnbench.backbones import load; load('shipped/figures-vgg')\n"
        "print([name for name in sys.modules if name.startswith('attnbench.') and "
        "name.split('.')[1] in ('stimuli', 'records', 'tasks', 'statistics', 'leaderboard')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
