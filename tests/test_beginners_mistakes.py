"""Typical mistakes of a first submission: one line says where each is, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from attnbench.commands.check import BackboneReport, check_on
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import Judge, open_judge
from attnbench.submission import load_submission

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

Write = Callable[[str, str], Path]
BACKBONE = "shipped/digits-cnn"

# A submission that works. Mistakes replace parts of it.
SUBMISSION = """\
import torch
from torch import nn
from torch.nn import functional as F

class Detector(nn.Module):
    def __init__(self, encoder, weight):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("weight", weight)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        x = self.encoder(images).flatten(1) @ self.weight
        return x

def adapt(backbone, pos, neg, *, sharpness=1.0):
    encoder = backbone.upto(backbone.stages[-2])
    with torch.no_grad():
        weight = encoder(pos).flatten(1).mean(0) - encoder(neg).flatten(1).mean(0)
    detector = Detector(encoder, sharpness * weight).eval()
    return detector
"""
FORWARD, ADAPT, RETURNS = "submission.py:12: ", "submission.py:16: ", "    return detector"


@dataclass(frozen=True)
class Mistake:
    """A mistake, made by replacing texts of the submission, and what the message must say.

    Attributes:
        line: the place that the message begins with.
        says: patterns of what is wrong and of what to write instead.
        replaced: texts of `SUBMISSION` and what stands in their place.
        warned: whether it is a warning.
        manifest: lines to add to the manifest.
    """

    line: str
    says: tuple[str, ...]
    replaced: dict[str, str] = field(default_factory=dict)
    warned: bool = False
    manifest: str = ""


def scores(expression: str, *says: str, line: str = FORWARD) -> Mistake:
    """A detector that returns this expression of its scores `x`."""
    return Mistake(line, says, {"return x": f"return {expression}"})


def returned(expression: str, *says: str) -> Mistake:
    """An `adapt` that returns this expression."""
    return Mistake(ADAPT, says, {RETURNS: f"    return {expression}"})


def statement(text: str, *says: str, warned: bool = False) -> Mistake:
    """A statement in `adapt`, at line 17, whose message names that line."""
    line = ADAPT if warned else "submission.py:17: "
    before = "    encoder = backbone.upto"
    return Mistake(line, says, {before: f"    {text}\n{before}"}, warned=warned)


MISTAKES = {
    # What the detector returns.
    "booleans": scores(
        "x > 0", "scores of type bool", r"decision score itself, such as `x`, not `\(x > 0\)`"
    ),
    "complex numbers": scores("x * 1j", "scores of type complex64", r"`x\.real`"),
    "integers": scores("x.long()", "scores of type int64", "decision score itself"),
    "half precision": scores("x.half()", "scores of type float16", r"`\.float\(\)`"),
    "a column": scores("x[:, None]", r"shape \[\d, 1\] for \d images", r"`scores\.squeeze\(1\)`"),
    "two columns": scores(
        "torch.stack([-x, x], 1)", r"shape \[\d, 2\]", r"`scores\[:, 1\] - scores\[:, 0\]`"
    ),
    "logits": scores("x[:, None].repeat(1, 10)", r"shape \[\d, 10\]", r"log_odds\(logits"),
    "the mean": scores("x.mean()", r"shape \[\]", "a score for each image"),
    "an array": scores("x.numpy()", "an ndarray", "compute them with torch"),
    "a tuple of outputs": scores("x, x", "a tuple", "must return a tensor of scores"),
    "NaN": scores("(x * 0).log() - (x * 0).log()", "scores are NaN", r"\.clamp\(min="),
    "depends on the batch": scores(
        "x - x.median()",
        "scores differ when the same images come in other batches",
        "register_buffer",
    ),
    "dropout that is always on": scores(
        "F.dropout(x)", "scores differ", r"F\.dropout\(x, training=self\.training\)"
    ),
    # What `adapt` returns.
    "None": returned("None", "adapt returned None", "`return detector`"),
    "a function": returned(
        "lambda x: x", "adapt returned a function", "write a class whose `forward"
    ),
    "a tuple": returned("detector, weight", "adapt returned a tuple", "return the detector alone"),
    "a tensor": returned("weight", "adapt returned a Tensor", "not the scores"),
    "a class": returned("Detector", "adapt returned the class Detector", r"`return Detector\(…\)`"),
    # How `adapt` is defined.
    "another name": Mistake(
        "submission.py ", ("no function adapt", "rename 'adapts'"), {"def adapt(": "def adapts("}
    ),
    "two arguments": Mistake(
        ADAPT,
        ("three arguments", r"`def adapt\(backbone, pos, neg"),
        {"pos, neg, *, sharpness=1.0": "pos"},
    ),
    "a misspelt hyperparameter": Mistake(
        ADAPT,
        ("no argument 'sharpnes'", "did you mean sharpness"),
        manifest="[hyperparameters]\nsharpnes = 2.0",
    ),
    "a missing hyperparameter": Mistake(
        ADAPT, ("'sharpness'", r"add it to \[hyperparameters\]"), {"sharpness=1.0": "sharpness"}
    ),
    # Imports.
    "a module that is not installed": Mistake(
        "submission.py:2: ",
        ("No module named 'no_such_library'", "pip install", r"`libraries = \[...\]`"),
        {"from torch import nn": "from torch import nn; import no_such_library"},
    ),
    "a misspelt module": Mistake(
        "submission.py:3: ",
        ("No module named 'skleanr'", "did you mean sklearn"),
        {"from torch.nn import": "import skleanr; from torch.nn import"},
    ),
    "a relative import": Mistake(
        "submission.py:2: ",
        ("relative import", "write `from helper import help`"),
        {"from torch import nn": "from .helper import help\nfrom torch import nn"},
    ),
    "a relative import of a module": Mistake(
        "submission.py:2: ",
        ("relative import", "write `import helper`"),
        {"from torch import nn": "from . import helper\nfrom torch import nn"},
    ),
    "a syntax error": Mistake(
        "submission.py:12: ",
        ("SyntaxError",),
        {"def forward(self, images):": "def forward(self, images)"},
    ),
    # What `adapt` does.
    "an image of the wrong shape": statement(
        "backbone(pos[0, 0])", "input to conv2d", "keep all four dimensions"
    ),
    "a layer of the wrong size": statement(
        "nn.Linear(3, 1)(torch.zeros(8, 5))", "shapes cannot be multiplied", r"features\.shape\[1\]"
    ),
    "another device": statement(
        "nn.Linear(5, 1, device='meta')(torch.zeros(8, 5))", "device", r"device=pos\.device"
    ),
    "cuda": statement("pos.cuda()", "CUDA|NVIDIA", r"`\.to\(pos\.device\)`"),
    "a layer that stages do not have": statement(
        "backbone.layer4", "no attribute 'layer4'", r"`backbone\.stages`"
    ),
    "a frozen backbone": statement("backbone(pos).sum().backward()", "grad_fn", "is frozen"),
    "a file": statement("open('table.csv')", "FileNotFoundError", r"Path\(__file__\)\.parent"),
    "a download": statement(
        "__import__('urllib.request').request.urlopen('http://127.0.0.1')", "URLError", "no network"
    ),
    "a local class": Mistake(
        "submission.py:22: ",
        ("'Local', which is defined in a function", "top level of the file"),
        {
            RETURNS: "    class Local(nn.Sequential):\n        def forward(self, x): return x\n"
            "    return Local(detector)"
        },
    ),
    "a lambda": Mistake(
        "submission.py:21: ",
        ("a lambda", "top level of the file"),
        {RETURNS: "    detector.act = lambda x: x\n    return detector"},
    ),
    "an open file": Mistake(
        FORWARD,
        ("a TextIOWrapper", "keep tensors, numbers, text and modules"),
        {RETURNS: "    detector.log = open('log', 'w')\n    return detector"},
    ),
    # What works, but not as meant.
    "unneeded gradients": Mistake(
        ADAPT,
        ("tracks gradients of tensors of the backbone", r"`torch\.no_grad\(\)`"),
        {"with torch.no_grad():": "backbone.requires_grad_(True)\n    if True:"},
        warned=True,
    ),
    "train mode": Mistake(
        ADAPT,
        ("train mode", r"`detector\.eval\(\)`"),
        {".eval()": "", "return x": "return self.dropout(x)"},
        warned=True,
    ),
    "images in the detector": Mistake(
        FORWARD,
        ("4 of the images it adapted on in 'images'", "counts as a parameter"),
        {RETURNS: "    detector.images = pos\n    return detector"},
        warned=True,
    ),
    "unseeded chance": Mistake(
        "two adaptations",
        ("different artefacts", "torch's default generator"),
        {"sharpness * weight": "weight + torch.Generator().seed() % 1000"},
    ),
    "state outside the detector": Mistake(
        "submission.py:13: ",
        ("works in the process that ran adapt", "keep what it needs in the detector"),
        {
            "self.encoder(images)": "EXTRA(images)",
            RETURNS: f"    globals()['EXTRA'] = encoder\n{RETURNS}",
        },
    ),
}


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with open_judge(Conditions(untrained=True)) as judge:
        yield judge


@pytest.fixture
def check(judge: Judge, submission_folder: Write) -> Callable[..., BackboneReport]:
    """A function that checks the submission after replacements in it."""

    def check(replaced: dict[str, str], manifest: str = "") -> BackboneReport:
        code = SUBMISSION
        for old, new in replaced.items():
            assert code.count(old) >= 1
            code = code.replace(old, new)
        folder = submission_folder("mine", code)
        with (folder / "submission.toml").open("a") as file:
            file.write(manifest)
        return check_on(BACKBONE, load_submission(folder), judge)

    return check


def test_the_submission_without_mistakes_is_right(check: Callable[..., BackboneReport]) -> None:
    report = check({})
    assert (report.problems, report.warnings, report.not_applicable) == ((), (), "")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_by_its_line_and_a_remedy(
    check: Callable[..., BackboneReport], name: str
) -> None:
    mistake = MISTAKES[name]
    report = check(mistake.replaced, mistake.manifest)
    messages = report.warnings if mistake.warned else report.problems
    assert len(messages) == 1, report
    assert messages[0].startswith(mistake.line), messages[0]
    assert "\n" not in messages[0] and "Traceback" not in messages[0]
    for pattern in mistake.says:
        assert re.search(pattern, messages[0]), messages[0]
    assert not (mistake.warned and report.problems)
