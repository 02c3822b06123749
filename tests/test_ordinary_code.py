"""Submissions that use torch and libraries as documented: they work, or a message says why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from attnbench.commands.check import BackboneReport, check_on
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import Judge, open_judge
from attnbench.submission import load_submission

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

Write = Callable[[str, str], Path]
BACKBONE = "shipped/digits-cnn"
LIBRARIES = ("timm", "transformers")
# The parameters of the read-out: the features of the backbone, and a threshold.
READOUT = 129

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
IMPORTS, FEATURES, DETECTOR = "# imports", "# features", "# detector"


class Works(NamedTuple):
    """Code that works as it is.

    Attributes:
        code: what stands in place of each comment of `SUBMISSION`.
        parameters: how many the detector adds.
        numbers: at least how many other numbers it holds.
    """

    code: dict[str, str]
    parameters: int = READOUT
    numbers: int = 1


def of_detector(statement: str, *says: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """A statement about the detector, and patterns of what the message says."""
    return {DETECTOR: statement}, says


FIRST = """
class First(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return next(iter(self.model(images).values()))
"""
SETTINGS = """
from dataclasses import dataclass, field
@dataclass
class Settings:
    rates: dict = field(default_factory=lambda: {f"rate{n}": n / 7 for n in range(100)})
    sizes: list = field(default_factory=lambda: list(range(100)))
"""
WORKS = {
    "a feature extractor of the backbone": Works(
        {
            IMPORTS: "from torchvision.models.feature_extraction import *" + FIRST,
            FEATURES: "name = get_graph_node_names(features)[1][-1]\n"
            "    features = First(create_feature_extractor(features, {name: 'out'}))",
        },
        numbers=100,
    ),
    "a forward hook": Works({DETECTOR: "detector.readout.register_forward_hook(ignore)"}),
    # The weights as they were, and a mask.
    "pruning": Works(
        {DETECTOR: "prune.l1_unstructured(detector.readout, 'weight', 0.5)"},
        parameters=3 * (READOUT - 1) + 1,
    ),
    # The norm, the direction and their product.
    "weight norm": Works(
        {DETECTOR: "nn.utils.weight_norm(detector.readout)"}, parameters=2 * (READOUT - 1) + 2
    ),
    "weight norm that is removed": Works(
        {
            DETECTOR: "nn.utils.remove_weight_norm(nn.utils.weight_norm(detector.readout))\n"
            "    parametrizations.weight_norm(detector.readout)\n"
            "    parametrize.remove_parametrizations(detector.readout, 'weight')"
        }
    ),
    "torch.compile in adapt alone": Works(
        {DETECTOR: "torch.compile(detector, backend='eager')(pos)"}
    ),
    "settings": Works(
        {
            IMPORTS: SETTINGS,
            DETECTOR: "detector.settings = Settings()\n"
            "    detector.labels = {n: f'the class {n}' for n in range(1_000)}\n"
            "    detector.table = [n / 7 for n in range(1_000)]",
        },
        numbers=2_200,
    ),
}
MODELS = {
    IMPORTS: "import timm\nfrom transformers import ViTConfig, ViTImageProcessor, ViTModel" + FIRST,
    FEATURES: "config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, "
    "intermediate_size=32, image_size=pos.shape[-1], patch_size=7, num_labels=1000)\n"
    "    features = First(ViTModel(config).eval())\n"
    "    features.processor = ViTImageProcessor()",
    DETECTOR: "detector.second = timm.create_model('mobilenetv3_small_050', num_classes=0)",
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
        "detector = torch.compile(detector)",
        "compiled by torch.compile",
        "return the module itself",
    ),
    "a compiled function": of_detector(
        "detector.readout.forward = torch.compile(detector.readout.forward)",
        "a function compiled by torch.compile",
        "the function itself",
    ),
    "a long chain of objects": of_detector(
        "chain = []\n    for _ in range(3_000):\n        chain = [chain]\n    detector.chain = chain",
        "very long chain",
    ),
    "processes that load data": (
        {
            IMPORTS: "from torch.utils.data import DataLoader, TensorDataset",
            DETECTOR: "list(DataLoader(TensorDataset(pos), num_workers=2))",
        },
        ("PermissionError", r"`DataLoader\(…, num_workers=0\)`", "in memory already"),
    ),
}


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with open_judge(Conditions(untrained=True)) as judge:
        yield judge


def check(judge: Judge, write: Write, code: dict[str, str], libraries: str = "") -> BackboneReport:
    """Check the submission with code in place of its comments."""
    text = SUBMISSION
    for comment, replacement in code.items():
        assert text.count(comment) == 1
        text = text.replace(comment, replacement)
    folder = write("mine", text)
    with (folder / "submission.toml").open("a") as file:
        file.write(f"libraries = [{libraries}]")
    return check_on(BACKBONE, load_submission(folder), judge)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if "torch.compile" in n else n for n in WORKS],
)
def test_ordinary_code_works(judge: Judge, submission_folder: Write, name: str) -> None:
    case = WORKS[name]
    report = check(judge, submission_folder, case.code)
    assert report.problems == ()
    assert report.parameters_added == case.parameters
    assert report.other_numbers is not None and report.other_numbers >= case.numbers


@pytest.mark.slow
def test_models_of_libraries_work(submission_folder: Write) -> None:
    for library in LIBRARIES:
        pytest.importorskip(library)
    named = ", ".join(f'"{library}"' for library in LIBRARIES)
    with open_judge(Conditions(untrained=True, modules=LIBRARIES)) as judge:
        report = check(judge, submission_folder, MODELS, named)
    assert report.problems == ()
    assert report.other_numbers is not None and report.other_numbers > 2_000
    # timm's network has 571,008 parameters, and as many again would be hidden.
    assert report.parameters_added is not None and report.parameters_added < 1_000_000


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_work_is_refused_in_a_sentence_with_a_remedy(
    judge: Judge, submission_folder: Write, name: str
) -> None:
    code, says = REFUSED[name]
    report = check(judge, submission_folder, code)
    assert len(report.problems) == 1, report
    assert report.problems[0].startswith("submission.py:"), report.problems[0]
    assert "\n" not in report.problems[0]
    for pattern in says:
        assert re.search(pattern, report.problems[0]), report.problems[0]
