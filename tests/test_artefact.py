"""The artefact: it is counted completely, and gives the same scores after it was unpacked."""

from __future__ import annotations

import copy
import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from attnbench.backbones.backbone import Backbone
from attnbench.judge.parameter_count import InvalidArtefact, ParameterCounter
from attnbench.sandbox.failures import ContractViolation
from attnbench.sandbox.packing import ArtefactPacker
from attnbench.sandbox.unpacking import unpack
from attnbench.wire.artefact import Artefact
from tests.conftest import small_backbone


class Detector(nn.Module):
    """Scores with the first logit of `network`, and holds the extras."""

    def __init__(self, network: nn.Module, **extras: object) -> None:
        super().__init__()
        self.network = network
        for name, value in extras.items():
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits[:, 0]


def count_parameters(detector: nn.Module, packer: ArtefactPacker) -> tuple[int, int]:
    """The number of parameters added and changed."""
    size = ParameterCounter(small_backbone()).measure(packer.pack(detector), {})
    return size.parameters_added, size.parameters_changed


def test_untouched_backbone_adds_no_parameters(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    artefact = packer.pack(Detector(backbone))
    size = ParameterCounter(small_backbone()).measure(artefact, {})
    assert (size.parameters_added, size.parameters_changed) == (0, 0)
    assert size.bytes < 1000


def test_deep_copy_of_the_backbone_adds_no_parameters(backbone: Backbone) -> None:
    assert count_parameters(Detector(copy.deepcopy(backbone)), ArtefactPacker(backbone)) == (0, 0)


def test_tensor_with_one_changed_scalar_counts_as_a_whole(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    with torch.no_grad():
        backbone.stage("head")[2].weight[0, 0] += 1  # type: ignore[index,operator]
    assert count_parameters(Detector(backbone), packer) == (0, 48)


def test_change_that_bypasses_autograd_is_counted(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    backbone.stage("head")[2].bias.data.numpy()[:] = 7  # type: ignore[index,union-attr]
    assert count_parameters(Detector(backbone), packer) == (0, 3)


def test_changed_tensor_of_a_copy_counts_as_changed_not_added(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    tuned = copy.deepcopy(backbone)
    with torch.no_grad():
        tuned.stage("head")[2].bias += 1  # type: ignore[index,operator]
    assert count_parameters(Detector(tuned), packer) == (0, 3)


def test_updated_batch_norm_statistics_are_counted(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    backbone.train()
    backbone(torch.randn(4, 3, 16, 16))
    backbone.eval()
    # The running mean and variance of 16 channels, and the batch counter.
    assert count_parameters(Detector(backbone), packer) == (0, 33)


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
def test_added_values_are_counted_wherever_they_are_held(
    backbone: Backbone, extras: dict[str, object]
) -> None:
    assert count_parameters(Detector(backbone, **extras), ArtefactPacker(backbone)) == (5, 0)


def test_tensor_used_twice_counts_once(backbone: Backbone) -> None:
    shared = nn.Parameter(torch.ones(5))
    detector = Detector(backbone, one=shared, two=shared)
    assert count_parameters(detector, ArtefactPacker(backbone)) == (5, 0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_unpacked_detector_gives_the_same_scores_to_the_bit(channels_last: bool) -> None:
    backbone = small_backbone()
    packer = ArtefactPacker(backbone)
    with torch.no_grad():
        backbone.stage("block1")[0].weight *= 1.5  # type: ignore[index,operator]
    if channels_last:
        backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    detector = Detector(nn.Sequential(backbone, nn.Linear(3, 4)))
    images = torch.randn(7, 3, 16, 16)
    unpacked = unpack(packer.pack(detector), small_backbone())
    assert torch.equal(unpacked(images), detector(images))


def test_object_that_cannot_be_pickled_is_an_error(backbone: Backbone) -> None:
    with pytest.raises(ContractViolation, match=r"holds a lambda.*top level of the file"):
        ArtefactPacker(backbone).pack(Detector(backbone, f=lambda x: x))


def test_hook_on_the_backbone_is_an_error(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    backbone.stage("block1").register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(ContractViolation, match=r"holds a lambda.*top level of the file"):
        packer.pack(Detector(backbone))


@pytest.mark.parametrize("keep", [0, 5, 50, 200])
def test_truncated_tensor_file_is_an_invalid_artefact(backbone: Backbone, keep: int) -> None:
    artefact = ArtefactPacker(backbone).pack(Detector(backbone, gain=torch.ones(100)))
    with pytest.raises(InvalidArtefact, match="cannot be read"):
        ParameterCounter(backbone).measure(replace(artefact, tensors=artefact.tensors[:keep]), {})


def test_artefact_survives_a_message(backbone: Backbone) -> None:
    artefact = ArtefactPacker(backbone).pack(Detector(backbone, gain=torch.ones(100)))
    assert Artefact.of_arrays(artefact.arrays) == artefact
    arrays = dict(artefact.arrays)
    del arrays["tensors"]
    with pytest.raises(KeyError, match="tensors"):
        Artefact.of_arrays(arrays)


ORDINARY_CLASSES = """
import abc, enum, functools, threading
from dataclasses import dataclass, field
from torch import nn

class Kind(enum.Enum):
    A = 1

class Base(abc.ABC):
    @abc.abstractmethod
    def name(self): ...

class Derived(Base):
    activations = {"twice": lambda x: 2 * x}
    lock = threading.Lock()

    def name(self): return "derived"

    @functools.cached_property
    def size(self): return 3

@dataclass(frozen=True, slots=True)
class Settings:
    rates: dict = field(default_factory=lambda: {n: 0.5 for n in range(100)}, metadata={"unit": "s"})

class Detector(nn.Identity):
    def __init__(self):
        super().__init__()
        self.held = [Kind.A, Derived(), Settings()]
"""


def test_ordinary_classes_of_a_submission_are_packed(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ordinary_classes.py").write_text(ORDINARY_CLASSES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    detector = importlib.import_module("ordinary_classes").Detector()
    artefact = ArtefactPacker(backbone).pack(detector, tmp_path)
    size = ParameterCounter(backbone).measure(artefact, {})
    assert size.parameters_added == 0
    assert 200 <= size.other_numbers < 300
    kind, derived, settings = unpack(artefact, backbone).held
    assert (kind.name, derived.name(), len(settings.rates)) == ("A", "derived", 100)


def test_what_a_lambda_in_a_class_holds_is_counted(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import torch
from torch import nn

def closed_over(table):
    return lambda x: x + table.sum()

class Detector(nn.Identity):
    functions = {"sum": closed_over(torch.rand(50))}
"""
    (tmp_path / "with_a_lambda.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    detector = importlib.import_module("with_a_lambda").Detector()
    artefact = ArtefactPacker(backbone).pack(detector, tmp_path)
    assert ParameterCounter(backbone).measure(artefact, {}).parameters_added == 50


def test_feature_extractor_with_a_long_graph_is_told_to_keep_its_code_only(
    backbone: Backbone,
) -> None:
    network = nn.Sequential(*(nn.Hardtanh() for _ in range(400))).eval()
    extractor = create_feature_extractor(network, ["399"])
    packer = ArtefactPacker(backbone)
    with pytest.raises(ContractViolation, match=r"`torch\.fx\.GraphModule\(extractor, extractor"):
        packer.pack(extractor)
    artefact = packer.pack(fx.GraphModule(extractor, extractor.graph))
    images = torch.randn(2, 3)
    assert unpack(artefact, backbone)(images)["399"].equal(network(images))


@pytest.mark.parametrize(
    ("tensor", "remedy"),
    [
        (torch.eye(3).to_sparse(), "to_dense"),
        (torch.empty(3, device="meta"), r"device=pos\.device"),
        (torch.ones(3, dtype=torch.complex128), "complex64"),
        (nn.UninitializedParameter(), r"on `pos\[:1\]` first"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "before it is quantised"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "to_padded_tensor"),
    ],
    ids=["sparse", "meta", "complex128", "lazy", "quantised", "nested"],
)
def test_tensor_that_cannot_be_delivered_is_refused_with_a_remedy(
    backbone: Backbone, tensor: Tensor, remedy: str
) -> None:
    with pytest.raises(ContractViolation, match=remedy):
        ArtefactPacker(backbone).pack(Detector(backbone, table=tensor))
