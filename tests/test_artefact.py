"""The artefact: the same scores after loading, and a count that nothing escapes."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_backbone
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.sandbox.packing import ArtefactPacker, unpack
from attnbench.judge.parameter_count import InvalidArtefact, Inventory


class Detector(nn.Module):
    """The first logit, through whatever was put in."""

    def __init__(self, network: nn.Module, **extras: object) -> None:
        super().__init__()
        self.network = network
        for name, value in extras.items():
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits[:, 0]


def size_of(detector: nn.Module, packer: ArtefactPacker) -> tuple[int, int]:
    size = Inventory(small_backbone()).measure(packer.pack(detector), {})
    return size.parameters_added, size.parameters_changed


def test_an_untouched_backbone_costs_nothing(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    artefact = packer.pack(Detector(backbone))
    size = Inventory(small_backbone()).measure(artefact, {})
    assert (size.parameters_added, size.parameters_changed) == (0, 0)
    assert size.bytes < 1000


def test_a_deep_copy_of_the_backbone_costs_nothing(backbone: Backbone) -> None:
    assert size_of(Detector(copy.deepcopy(backbone)), ArtefactPacker(backbone)) == (0, 0)


def test_a_changed_tensor_counts_whole(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    with torch.no_grad():
        backbone.stage("head")[2].weight[0, 0] += 1  # type: ignore[index,operator]
    assert size_of(Detector(backbone), packer) == (0, 48)


def test_a_change_behind_autograds_back_is_seen(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    backbone.stage("head")[2].bias.data.numpy()[:] = 7  # type: ignore[index,union-attr]
    assert size_of(Detector(backbone), packer) == (0, 3)


def test_a_changed_copy_is_changed_not_added(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    tuned = copy.deepcopy(backbone)
    with torch.no_grad():
        tuned.stage("head")[2].bias += 1  # type: ignore[index,operator]
    assert size_of(Detector(tuned), packer) == (0, 3)


def test_drifting_batch_norm_statistics_are_counted(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    backbone.train()
    backbone(torch.randn(4, 3, 16, 16))
    backbone.eval()
    # running mean and variance of 16 channels and the batch counter
    assert size_of(Detector(backbone), packer) == (0, 33)


@pytest.mark.parametrize(
    "extras",
    [
        {"gain": nn.Parameter(torch.ones(5))},
        {"plain": torch.ones(5)},
        {"array": np.ones(5)},
        {"listed": [torch.ones(2), {"deep": torch.ones(3)}]},
    ],
    ids=lambda extras: next(iter(extras)),
)
def test_what_is_added_is_counted_wherever_it_is(
    backbone: Backbone, extras: dict[str, object]
) -> None:
    assert size_of(Detector(backbone, **extras), ArtefactPacker(backbone)) == (5, 0)


def test_a_tensor_used_twice_counts_once(backbone: Backbone) -> None:
    shared = nn.Parameter(torch.ones(5))
    detector = Detector(backbone, one=shared, two=shared)
    assert size_of(detector, ArtefactPacker(backbone)) == (5, 0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_loading_gives_the_same_scores_to_the_bit(channels_last: bool) -> None:
    backbone = small_backbone()
    packer = ArtefactPacker(backbone)
    with torch.no_grad():
        backbone.stage("block1")[0].weight *= 1.5  # type: ignore[index,operator]
    if channels_last:
        backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    detector = Detector(nn.Sequential(backbone, nn.Linear(3, 4)))
    images = torch.randn(7, 3, 16, 16)
    loaded = unpack(packer.pack(detector), small_backbone())
    assert torch.equal(loaded(images), detector(images))


def test_what_cannot_be_saved_says_so(backbone: Backbone) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError), match="lambda"):
        ArtefactPacker(backbone).pack(Detector(backbone, f=lambda x: x))


def test_a_hook_left_on_the_backbone_is_not_lost_silently(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    backbone.stage("block1").register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError), match="lambda"):
        packer.pack(Detector(backbone))


@pytest.mark.parametrize("keep", [0, 5, 50, 200])
def test_truncated_tensors_are_named_as_such(backbone: Backbone, keep: int) -> None:
    artefact = ArtefactPacker(backbone).pack(Detector(backbone, gain=torch.ones(100)))
    with pytest.raises(InvalidArtefact, match="cannot be read"):
        Inventory(backbone).measure(replace(artefact, tensors=artefact.tensors[:keep]), {})
