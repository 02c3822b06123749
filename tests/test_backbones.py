"""Backbones: stages preserve the network, and weights and names are checked."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import small_backbone
from torch import Tensor, nn
from torchvision import models

from attnbench.backbones import Backbone, fingerprint, load
from attnbench.backbones.shipped import SHIPPED
from attnbench.backbones.stage_splitting import (
    features_and_head,
    sequential_stages,
    split_into_stages,
)
from attnbench.errors import AttnbenchError
from attnbench.resources import weights_folder
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.figures import CLASSES, SIZE, draw
from attnbench.stimuli.preprocessing import in_unit_range, normalise
from attnbench.tasks import load_task
from pretraining.recipes import RECIPES

DATA = Path(__file__).parents[2] / "shared" / "data"
DOCS = Path(__file__).parents[1] / "docs"
FIGURE_CLASSIFIERS = ["figures-vgg", "figures-vit", "figures-resnet"]
NETWORKS = ["squeezenet1_1", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "alexnet"]
LARGE = ["vgg16", "vit_b_16", "convnext_tiny", "efficientnet_b0", "resnet50", "swin_t", "googlenet"]
# The number of stages of timm's networks: a ResNet, two vision transformers (one of which averages its
# tokens), an encoder without a head, a network whose maps have their channels last, and others.
TIMM_STAGES = {
    "resnet18": 7,
    "vit_tiny_patch16_224": 15,
    "vit_base_patch32_clip_224.laion2b_ft_in1k": 15,
    "test_vit4": 12,
    "vit_small_patch16_224.dino": 14,
    "swin_tiny_patch4_window7_224": 2,
    "convnext_atto": 7,
    "mobilenetv3_small_050": 9,
    "regnetx_002": 7,
    "densenet121": 4,
    "vgg11": 7,
}


@pytest.mark.parametrize(
    "name", NETWORKS + [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]
)
def test_torchvision_stages_preserve_the_output(name: str) -> None:
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


def test_upto_and_after_compose_to_the_network(backbone: Backbone) -> None:
    images = torch.randn(2, 3, 16, 16)
    for stage in backbone.stages:
        outputs = backbone.after(stage)(backbone.upto(stage)(images))
        assert torch.equal(outputs, backbone(images))


def test_the_error_for_an_unknown_stage_lists_the_stages(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"no stage 'block9'.*block1, block2, head"):
        backbone.upto("block9")


@pytest.mark.parametrize(
    "name", ["vgg16", "shipped/none-such", "torchvision/none-such", "timm/none-such", "x/y"]
)
def test_an_unknown_backbone_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(AttnbenchError, match=name.split("/")[-1]):
        load(name, untrained=True)


@pytest.mark.parametrize("name", TIMM_STAGES)
def test_timm_stages_preserve_the_output(name: str) -> None:
    timm = pytest.importorskip("timm", reason="needs attnbench[timm]")
    backbone = load(f"timm/{name}", untrained=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = timm.create_model(name, pretrained=False).eval()
    size = backbone.preprocessing.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(backbone(images), original(images))
    assert len(backbone.stages) == TIMM_STAGES[name]
    size = sum(parameter.numel() for parameter in backbone.parameters())
    assert size == sum(parameter.numel() for parameter in original.parameters())
    if original.num_classes:
        assert backbone.labels is not None and len(backbone.labels) == original.num_classes
        assert backbone.labels[:1] == ("n01440764",) and backbone.stages[-1] == "head"
    else:
        assert backbone.labels is None and backbone.stages[-1] == "norm"


# Networks whose modules do not run one after the other, made small, with some of their stages.
BRANCHING_TIMM_NETWORKS = [
    (
        "deit_tiny_distilled_patch16_224",
        {"img_size": 112, "depth": 2},
        ("patch_embed", "blocks_1", "head"),
    ),
    (
        "eva02_tiny_patch14_224",
        {"img_size": 112, "depth": 2},
        ("patch_embed", "blocks_1", "fc_norm"),
    ),
    ("levit_128s", {"img_size": 112}, ("stem_conv1", "stages_2", "pool", "head")),
    ("resnet50_clip", {"img_size": 96}, ("stem_conv1", "stages_3_2", "head_proj", "pool")),
    (
        "test_vit3",
        {"img_size": 112, "num_classes": 0},
        ("tokens", "block9", "norm"),
    ),  # like SigLIP's
]


def small_timm_network(name: str, options: dict[str, int]) -> nn.Module:
    timm = pytest.importorskip("timm", reason="needs attnbench[timm]")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = timm.create_model(name, **options).eval()
    return network


def timm_stages(name: str, network: nn.Module, size: int) -> dict[str, nn.Module]:
    from attnbench.backbones.timm_models import stages_of  # timm is optional

    return stages_of(name, network, size)


@pytest.mark.parametrize(("name", "options", "names"), BRANCHING_TIMM_NETWORKS)
def test_timm_networks_that_branch_have_stages(
    name: str, options: dict[str, int], names: tuple[str, ...]
) -> None:
    network = small_timm_network(name, options)
    size = options["img_size"]
    stages = timm_stages(name, network, size)
    assert [stage for stage in stages if stage in names] == list(names)
    assert next(iter(stages)) == names[0] and list(stages)[-1] == names[-1]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(nn.Sequential(*stages.values())(images), network(images))
    tensors = {id(tensor) for tensor in network.parameters()}
    assert tensors == {id(tensor) for tensor in nn.ModuleList(stages.values()).parameters()}


def test_a_network_with_two_branches_is_refused() -> None:
    network = small_timm_network("crossvit_tiny_240", {"depth": [[1, 1, 0]]})
    with pytest.raises(AttnbenchError, match=r"split timm/net .* --backbone FILE.py:FUNCTION$"):
        timm_stages("net", network, 240)


def test_stages_return_a_tensor_with_a_row_for_each_image() -> None:
    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.mean(dim=(2, 3)), images.amax(dim=(2, 3))

    class Stack(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.stack((images.mean(dim=(2, 3)), images.amax(dim=(2, 3))))

    class Total(nn.Module):
        def forward(self, branches: tuple[Tensor, Tensor]) -> Tensor:
            return branches[0] + branches[1]

    for branches in (Pair(), Stack()):
        network = nn.Sequential(branches, Total())
        with pytest.raises(AttnbenchError, match="cannot split x/y into stages"):
            split_into_stages("x/y", network, 8, (lambda model: dict(model.named_children()),))


def test_a_network_with_two_parallel_heads_cannot_be_split() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            means = images.mean(dim=(2, 3))
            return self.first(means) + self.second(means)

    with pytest.raises(AttnbenchError, match="cannot split x/y into stages"):
        split_into_stages("x/y", TwoHeads().eval(), 8, (sequential_stages, features_and_head))


def test_untrained_weights_are_reproducible_and_do_not_advance_the_global_generator() -> None:
    torch.manual_seed(5)
    first = fingerprint(load("torchvision/squeezenet1_1", untrained=True))
    next_number = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), next_number)
    assert fingerprint(load("torchvision/squeezenet1_1", untrained=True)) == first


def test_one_changed_scalar_changes_the_fingerprint() -> None:
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


def test_timm_weights_are_loaded_from_the_data_folder(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs attnbench[timm]")
    (tmp_path / "weights").mkdir()
    trained = timm.create_model("test_vit4.r160_in1k", pretrained=False).eval()
    file = tmp_path / "weights" / "test_vit4.r160_in1k-mine.safetensors"
    safetensors.torch.save_file(trained.state_dict(), file)
    backbone = load("timm/test_vit4.r160_in1k", data=tmp_path)
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(backbone(images), trained(images))


def test_a_stage_can_be_pickled() -> None:
    backbone = load("torchvision/squeezenet1_1", untrained=True)
    images = torch.randn(1, 3, 64, 64)
    copy = pickle.loads(pickle.dumps(backbone.stage("block1")))
    with torch.no_grad():
        assert torch.equal(copy(images), backbone.stage("block1")(images))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_small_and_name_their_recipe(name: str) -> None:
    file = weights_folder() / f"{name}.safetensors"
    assert file.stat().st_size <= 2 * 2**20
    with safetensors.safe_open(file, "pt") as weights:
        assert weights.metadata()["recipe_sha256"] == RECIPES[name].sha256
    load(f"shipped/{name}")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data in ../shared/data")
def test_real_weights_recognise_real_pictures() -> None:
    backbone = load("torchvision/squeezenet1_1", data=DATA)
    track = load_task("imagenet-standard").tracks["photographs"]
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, DATA)
    episode = stimuli.episode("n01440764", 0)  # tench
    with torch.no_grad():
        predictions = backbone(torch.from_numpy(episode.pos)).argmax(1)
    assert (predictions == 0).float().mean() > 0.45


@pytest.mark.parametrize("name", FIGURE_CLASSIFIERS)
def test_labels_of_figure_networks_are_the_classes_of_the_figures(name: str) -> None:
    backbone = load(f"shipped/{name}", untrained=True)
    assert backbone.labels == tuple(CLASSES) and backbone.preprocessing.size == SIZE


def test_narrow_networks_have_the_stages_of_torchvisions() -> None:
    resnet = load("torchvision/resnet18", untrained=True)
    assert load("shipped/figures-resnet", untrained=True).stages == resnet.stages
    blocks = [f"block{number}" for number in range(1, 5)]
    assert load("shipped/figures-vit", untrained=True).stages == ("tokens", *blocks, "norm", "head")


def test_figure_networks_are_as_accurate_as_the_docs_say() -> None:
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    labels = np.repeat(np.arange(len(CLASSES)), 10)
    pictures = np.concatenate([draw("test", label, np.arange(10)) for label in range(len(CLASSES))])
    for name in FIGURE_CLASSIFIERS:
        with safetensors.safe_open(weights_folder() / f"{name}.safetensors", "pt") as weights:
            stated = float(weights.metadata()["held_out_accuracy"])
        assert re.search(rf"\| `shipped/{name}` \|.*\| {100 * stated:.1f} % \|", page)
        backbone = load(f"shipped/{name}")
        images = normalise(in_unit_range(pictures), backbone.preprocessing)
        with torch.no_grad():
            predictions = backbone(torch.from_numpy(images)).argmax(1).numpy()
        # The standard error of a share of 400 pictures is 0.025.
        assert (predictions == labels).mean() == pytest.approx(stated, abs=0.1)


def test_loading_a_backbone_in_a_worker_does_not_import_the_stimuli() -> None:
    code = (
        "import sys; from attnbench.sandbox import fork_server, worker\n"
        "from attnbench.backbones import load; load('shipped/figures-vgg')\n"
        "print([name for name in sys.modules if name.startswith('attnbench.') and "
        "name.split('.')[1] in ('stimuli', 'records', 'tasks', 'statistics', 'leaderboard')])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"
