"""Submissions that use torch and libraries as their documentation shows: each works, or is told why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attnbench.commands.check import BackboneReport, check_on
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import Judge, open_judge
from attnbench.submission import load_submission

Write = Callable[[str, str], Path]
BACKBONE = "shipped/digits-cnn"
LIBRARIES = ("timm", "transformers")

# A linear probe of features. The cases replace parts of it.
SUBMISSION = """\
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
# imports

def ignore(module, inputs, outputs):
    return None

class Detector(nn.Module):
    def __init__(self, features, size):
        super().__init__()
        self.features = features
        self.readout = nn.Linear(size, 1)

    def forward(self, images):
        features = self.features(images)
        return self.readout(features.flatten(1)).squeeze(1)

def adapt(backbone, pos, neg):
    features = backbone.upto(backbone.stages[-2])
    # features
    with torch.no_grad():
        size = features(pos).flatten(1).shape[1]
    detector = Detector(features, size)
    # detector
    return detector.eval()
"""
IMPORTS, FEATURES, DETECTOR, SCORES = "# imports", "# features", "# detector", "return self.readout"


@dataclass(frozen=True)
class Works:
    """Code that works as it is.

    Attributes:
        code: what stands in place of each comment of `SUBMISSION`.
        parameters: how many the detector adds; None for any number.
        numbers: at least how many other numbers it holds.
        libraries: that the manifest must name.
    """

    code: dict[str, str]
    parameters: int | None = None
    numbers: int = 0
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Code that does not work, and patterns of what the message says."""

    code: dict[str, str]
    says: tuple[str, ...]


def of_detector(statement: str, *says: str) -> Refused:
    """A statement about the detector."""
    return Refused({DETECTOR: statement}, says)


EXTRACTOR = "from torchvision.models.feature_extraction import create_feature_extractor"
DATACLASS = """
from dataclasses import dataclass, field, make_dataclass
@dataclass
class Settings:
    rates: dict = field(default_factory=lambda: {f"rate{n}": n / 7 for n in range(100)})
    sizes: list = field(default_factory=lambda: list(range(100)))
"""
WORKS = {
    "a feature extractor of the backbone": Works(
        {
            IMPORTS: EXTRACTOR,
            FEATURES: "name = get_graph_node_names(backbone)[1][-2]; "
            "extractor = create_feature_extractor(backbone, {name: 'out'})\n"
            "    features = First(extractor)",
        },
        parameters=None,
    ),
    "a forward hook": Works({DETECTOR: "detector.readout.register_forward_hook(ignore)"}),
    "pruning": Works({DETECTOR: "prune.l1_unstructured(detector.readout, 'weight', 0.5)"}),
    "weight norm": Works({DETECTOR: "nn.utils.weight_norm(detector.readout)"}),
    "weight norm that is removed": Works(
        {DETECTOR: "nn.utils.remove_weight_norm(nn.utils.weight_norm(detector.readout))"}
    ),
    "a parametrization that is removed": Works(
        {
            DETECTOR: "parametrizations.weight_norm(detector.readout)\n"
            "    parametrize.remove_parametrizations(detector.readout, 'weight')"
        }
    ),
    "torch.compile in adapt alone": Works(
        {DETECTOR: "torch.compile(detector, backend='eager')(pos)"}
    ),
    "a dataclass with 200 numbers": Works(
        {IMPORTS: DATACLASS, DETECTOR: "detector.settings = Settings()"}, numbers=200
    ),
    "a dictionary of 1,000 labels": Works(
        {DETECTOR: "detector.labels = {n: f'the class {n}' for n in range(1_000)}"}, numbers=1_000
    ),
    "a list of 1,000 numbers": Works(
        {DETECTOR: "detector.table = [n / 7 for n in range(1_000)]"}, numbers=1_000
    ),
    "a model of transformers": Works(
        {
            IMPORTS: "from transformers import ViTConfig, ViTImageProcessor, ViTModel",
            FEATURES: "config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, "
            "intermediate_size=32, image_size=pos.shape[-1], patch_size=7, num_labels=1000)\n"
            "    features = First(ViTModel(config).eval())\n"
            "    features.processor = ViTImageProcessor()",
        },
        numbers=1_000,
        libraries=("transformers",),
    ),
    "a model of timm": Works(
        {
            IMPORTS: "import timm",
            FEATURES: "features = timm.create_model('mobilenetv3_small_050', num_classes=0).eval()",
        },
        numbers=1_000,
        libraries=("timm",),
    ),
}
REFUSED = {
    "weight norm as a parametrization": of_detector(
        "parametrizations.weight_norm(detector.readout)",
        "a parametrization of 'weight'",
        r"`torch\.nn\.utils\.parametrize\.remove_parametrizations\(module, 'weight'\)`",
    ),
    "a quantised module": of_detector(
        "detector.readout = torch.ao.quantization.quantize_dynamic("
        "nn.Sequential(detector.readout), {nn.Linear})",
        r"a quantised tensor \(torch\.qint8\)",
        "before it is quantised",
    ),
    "a compiled module": of_detector(
        "detector = torch.compile(detector)", "compiled by torch.compile", "return the module itself"
    ),
    "a compiled function": of_detector(
        "detector.readout.forward = torch.compile(detector.readout.forward)",
        "a function compiled by torch.compile",
        "the function itself",
    ),
    "a scripted module": of_detector(
        "detector.readout = torch.jit.trace(detector.readout, torch.zeros(1, size))",
        "a ScriptModule",
        "return the module itself",
    ),
    "a lazy layer": of_detector("detector.more = nn.LazyLinear(1)", "a lazy", r"on `pos\[:1\]`"),
    "a sparse tensor": of_detector(
        "detector.table = torch.eye(3).to_sparse()", "a sparse tensor", r"`tensor\.to_dense\(\)`"
    ),
    "a long chain of objects": of_detector(
        "chain = []\n    for _ in range(3_000):\n        chain = [chain]\n    detector.chain = chain",
        "very long chain",
    ),
    "processes that load data": Refused(
        {
            IMPORTS: "from torch.utils.data import DataLoader, TensorDataset",
            DETECTOR: "list(DataLoader(TensorDataset(pos), num_workers=2))",
        },
        ("PermissionError", r"`DataLoader\(…, num_workers=0\)`", "in memory already"),
    ),
    "complex scores": Refused(
        {SCORES: "return (1 + 1j) * self.readout"}, ("of type complex64", r"`x\.real`")
    ),
    "truth values": Refused(
        {SCORES: "return torch.zeros(len(features)) > 0 #"}, ("of type bool", "decision score")
    ),
    "whole numbers": Refused(
        {SCORES: "return torch.zeros(len(features)).long() #"}, ("of type int64", "before it is")
    ),
}
# Returns the one output of a model that has several.
FIRST = """
from torchvision.models.feature_extraction import get_graph_node_names
class First(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return next(iter(self.model(images).values()))
"""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    with open_judge(Conditions(untrained=True, modules=LIBRARIES)) as judge:
        yield judge


@pytest.fixture
def check(judge: Judge, submission_folder: Write) -> Callable[..., BackboneReport]:
    """A function that checks the submission with code in place of its comments."""

    def check(code: dict[str, str], libraries: tuple[str, ...] = ()) -> BackboneReport:
        text = SUBMISSION
        for comment, replacement in code.items():
            assert text.count(comment) == 1
            text = text.replace(comment, replacement + FIRST * (comment == IMPORTS))
        folder = submission_folder("mine", text)
        with (folder / "submission.toml").open("a") as file:
            file.write(f"libraries = {list(libraries)}")
        return check_on(BACKBONE, load_submission(folder), judge)

    return check


@pytest.mark.parametrize("name", WORKS)
def test_ordinary_code_works(check: Callable[..., BackboneReport], name: str) -> None:
    case = WORKS[name]
    report = check(case.code, case.libraries)
    assert report.problems == ()
    assert report.other_numbers is not None and report.other_numbers >= case.numbers
    if case.parameters is not None:
        assert report.parameters_added == case.parameters


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_work_is_refused_in_a_sentence_with_a_remedy(
    check: Callable[..., BackboneReport], name: str
) -> None:
    case = REFUSED[name]
    report = check(case.code)
    assert len(report.problems) == 1, report
    assert report.problems[0].startswith("submission.py:"), report.problems[0]
    assert "\n" not in report.problems[0]
    for pattern in case.says:
        assert re.search(pattern, report.problems[0]), report.problems[0]
