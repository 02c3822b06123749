"""`attnbench check`: two backbones, its report, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from attnbench.cli.main import app
from attnbench.commands.check import BackboneReport, CheckReport, check

Write = Callable[[str, str], Path]

# It works only where the target has a label, and does not say so.
NEEDS_A_LABEL = """
    from attnbench import log_odds
    from torch import nn

    class Detector(nn.Module):
        def __init__(self, network, target):
            super().__init__()
            self.network, self.target = network, target

        def forward(self, images):
            return self.network(images)[:, self.target]

    def adapt(backbone, pos, neg):
        return Detector(backbone, backbone.target)
"""


def report_on(backbone: str, *problems: str, not_applicable: str = "") -> BackboneReport:
    """A report with these problems."""
    return BackboneReport(
        backbone=backbone,
        has_label=backbone == "labelled",
        problems=problems,
        warnings=(),
        not_applicable=not_applicable,
        parameters_added=None if problems or not_applicable else 1,
        parameters_changed=0,
        other_numbers=0,
        artefact_bytes=100,
        changed=(),
    )


def test_a_problem_says_where_it_is_unless_it_is_everywhere() -> None:
    both = CheckReport("mine", (report_on("labelled", "a", "b"), report_on("new", "a", "c")))
    assert both.problems == ("a", "on labelled: b", "on new, where backbone.target is None: c")
    assert not both.ok and both.main.backbone == "labelled"
    one = CheckReport("mine", (report_on("labelled", not_applicable="no"), report_on("new", "a")))
    assert one.problems == ("a",) and one.main.backbone == "new"
    none = CheckReport("mine", (report_on("labelled", not_applicable="no"),))
    assert none.ok and none.main.backbone == "labelled"


def test_a_submission_is_checked_with_and_without_a_label(submission_folder: Write) -> None:
    report = check(submission_folder("mine", NEEDS_A_LABEL))
    assert [on.has_label for on in report.backbones] == [True, False]
    assert [len(on.problems) for on in report.backbones] == [0, 1]
    (problem,) = report.problems
    assert problem.startswith("on shipped/figures-simclr, where backbone.target is None: ")
    assert "submission.py:10: " in problem and "of shape [" in problem


def test_json_and_text_say_the_same_of_a_method_that_applies_to_one() -> None:
    runner = CliRunner()
    text = runner.invoke(app, ["check", "bias_only"])
    assert text.exit_code == 0, text.output
    assert (
        text.output.startswith("bias_only: ok\n") and "does not apply: the backbone" in text.output
    )
    done = runner.invoke(app, ["check", "bias_only", "--json"])
    answer = json.loads(done.stdout)
    assert list(answer)[:8] == [
        "submission",
        "ok",
        "problems",
        "backbone",
        "parameters_added",
        "parameters_changed",
        "other_numbers",
        "artefact_bytes",
    ]
    assert answer["ok"] and answer["parameters_added"] == 1
    assert [bool(on["not_applicable"]) for on in answer["backbones"]] == [False, True]
