"""The libraries of a submission: any installed distribution, imported once for all workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attnbench.commands.check import check_on
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import open_judge
from attnbench.libraries import modules_of, require_library
from attnbench.sandbox import libraries
from attnbench.submission import load_submission

BACKBONE = "shipped/digits-cnn"

SUBMISSION = """
import sys
IMPORTED_BEFORE = "made_up" in sys.modules
import made_up
from attnbench.adaptation import log_odds
from torch import nn

class Detector(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return log_odds(self.network(images), 0)

def adapt(backbone, pos, neg):
    assert IMPORTED_BEFORE and made_up.VALUE == 1
    return Detector(backbone)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that installs the distribution `made-up-library`, given the code of its module."""

    def install(code: str) -> None:
        site = tmp_path / "site-packages"
        info = site / "made_up_library-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "made_up.py").write_text(code)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: made-up-library\nVersion: 1.0\n"
        )
        files = ["made_up.py", "tests/__init__.py", "made_up_library-1.0.dist-info/METADATA"]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, "made_up", raising=False)

    return install


@pytest.fixture
def submission(submission_folder: Callable[[str, str], Path]) -> Path:
    """A submission that names the distribution and imports its module."""
    folder = submission_folder("mine", SUBMISSION)
    with (folder / "submission.toml").open("a") as file:
        file.write('libraries = ["made_up.library"]\n')
    return folder


def test_the_modules_of_a_library_are_those_that_the_program_mentions(
    install: Callable[..., None],
) -> None:
    install("")
    assert modules_of("Made_Up-library", [b"import json", b"from made_up import x"]) == ["made_up"]
    assert modules_of("made-up-library", [b"import made_up_too"]) == []
    assert modules_of("scikit-learn", [b"from sklearn.linear_model import Ridge"]) == ["sklearn"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sklearn", 'write "scikit-learn"'),
        ("scikit-lern", "not installed: did you mean scikit-learn?"),
        ("no-such-thing-at-all", "not installed: pip install no-such-thing-at-all"),
        ("json", "is part of Python: remove it"),
        ("attnbench", "is always there: remove it"),
    ],
)
def test_a_library_that_cannot_be_named_is_answered_by_what_to_write(
    name: str, message: str
) -> None:
    with pytest.raises(AttnbenchError, match=message):
        require_library(name)


def test_a_worker_inherits_any_installed_library(
    install: Callable[..., None], submission: Path
) -> None:
    install("VALUE = 1")
    loaded = load_submission(submission)
    with open_judge(Conditions(untrained=True, modules=(*loaded.modules, "absent"))) as judge:
        assert check_on(BACKBONE, loaded, judge).problems == ()


def test_a_library_that_imports_what_workers_must_not_have_is_refused(
    install: Callable[..., None], submission: Path
) -> None:
    """The fork server may read the trusted packages, so that workers would inherit them."""
    install("import attnbench.stimuli")
    modules = load_submission(submission).modules
    with (
        open_judge(Conditions(untrained=True, modules=modules)) as judge,
        pytest.raises(AttnbenchError, match=r"module made_up .* imports attnbench\.stimuli"),
    ):
        judge.evaluator(BACKBONE)


def test_a_library_that_a_fork_cannot_inherit_is_refused(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    monkeypatch.setattr(libraries, "HIDDEN_PACKAGES", ())
    with pytest.raises(AttnbenchError, match=r"made_up .* starts threads"):
        libraries.import_libraries(["made_up"])


def test_a_library_that_changes_what_other_submissions_compute_is_refused(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All submissions of a run would inherit the settings, not only the one that names it."""
    install("import torch\ntorch.set_default_dtype(torch.float64)")
    monkeypatch.setattr(libraries, "HIDDEN_PACKAGES", ())
    try:
        with pytest.raises(AttnbenchError, match=r"made_up .* changes settings of PyTorch"):
            libraries.import_libraries(["made_up"])
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("code", ["1 / 0", "raise SystemExit", "import no_such_module"])
def test_a_library_that_cannot_be_imported_concerns_only_the_submission_that_needs_it(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    install(code)
    monkeypatch.setattr(libraries, "HIDDEN_PACKAGES", ())
    libraries.import_libraries(["made_up"])
    assert "made_up" not in sys.modules
