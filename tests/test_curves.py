"""`attnbench curve`: nested subsets, tests on seen images, and what a curve comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import nn

import attnbench
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.commands.check import noise_episode
from attnbench.commands.curve import CURVES
from attnbench.commands.try_out import import_adapt
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.curve_plot import curve_plot
from attnbench.leaderboard.plot_style import svg
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.statistics.curves import mean_height, needed_for_share, summarise_curve
from attnbench.submission import load_submission
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

TASK = """
name = "{name}"
version = 1
title = "Digits"
reference = "none"
description = "Written by a test."

[tracks.mini]
backbones = ["shipped/digits-cnn"]
targets = {targets}
timeout = 60

[tracks.mini.adapt]
source = {{ kind = "digits", split = "adapt" }}
positives = 8
negatives = 16
generator = {{ kind = "noise", sigma = 1.0 }}

[tracks.mini.test]
source = {{ kind = "digits", split = "test" }}
positives = 20
negatives = 40
generator = {{ kind = "noise", sigma = 1.0 }}
"""

# The score is the similarity to the nearest positive, less that to the nearest negative.
NEAREST_NEIGHBOUR = """
    import torch
    from torch import nn

    class Detector(nn.Module):
        def __init__(self, pos, neg):
            super().__init__()
            self.register_buffer("pos", pos.flatten(1))
            self.register_buffer("neg", neg.flatten(1))

        def forward(self, images):
            flat = images.flatten(1)
            near, far = (torch.cdist(flat, group).amin(1) for group in (self.pos, self.neg))
            return far - near

    def adapt(backbone, pos, neg):
        return Detector(pos, neg)
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task on noisy digits with 8 positives and 16 negatives to adapt on."""
    path = tmp_path / "noisy.toml"
    path.write_text(TASK.format(name="noisy", targets=["3", "7", "8"]), encoding="utf-8")
    return path


# What a curve comes to.


def test_the_mean_height_is_the_area_under_the_curve_over_its_width() -> None:
    # Over log2 of 1, 2, 8 the curve rises from 0 to 1 and then to 3: (0.5 + 4) / 3.
    heights = mean_height(np.array([1.0, 2.0, 8.0]), np.array([[0.0, 1.0, 3.0], [2.0, 2.0, 2.0]]))
    assert heights == pytest.approx([1.5, 2.0])
    assert mean_height(np.array([4.0]), np.array([[1.2]])) == pytest.approx([1.2])


def test_the_share_of_the_best_is_interpolated_in_log2() -> None:
    abscissa = np.array([1.0, 2.0, 4.0, 8.0])
    # 90 % of 2 lies at 0.8 of the way from 1 at 2 images to 2 at 4 images.
    assert needed_for_share(abscissa, np.array([0, 1, 2, 2.0])) == pytest.approx(2 * 2**0.8)
    assert needed_for_share(abscissa, np.array([1, 1, 1, 1.0])) == 1
    # A curve that falls below it at its end has not stayed there.
    assert needed_for_share(abscissa, np.array([0, 2, 2, 1.0])) == 8
    assert np.isnan(needed_for_share(abscissa, np.array([0, 0, -1, 0.0])))


@given(
    st.integers(2, 6).flatmap(
        lambda k: st.lists(
            st.lists(st.floats(-2, 5), min_size=k, max_size=k), min_size=2, max_size=6
        )
    )
)
def test_estimates_lie_in_their_intervals_and_on_the_axis(rows: list[list[float]]) -> None:
    d_a = np.array(rows)
    abscissa = 2.0 ** np.arange(d_a.shape[1])
    summary = summarise_curve(abscissa, d_a, d_a / 10)
    for estimate in (summary.area, summary.lag):
        assert estimate.low <= estimate.value <= estimate.high
    assert summary.peak.value in abscissa
    assert np.isnan(summary.needed.value) or 1 <= summary.needed.value <= abscissa[-1]


def test_intervals_of_means_are_student_s_t_over_targets() -> None:
    rng = np.random.default_rng(0)
    d_a = rng.normal(2, 0.5, (12, 4))
    abscissa = np.array([1.0, 2.0, 4.0, 8.0])
    area = summarise_curve(abscissa, d_a, d_a).area
    heights = mean_height(abscissa, d_a)
    expected = scipy.stats.t.interval(0.95, 11, heights.mean(), scipy.stats.sem(heights))
    assert (area.low, area.high) == pytest.approx(expected)


def test_a_curve_needs_an_ascending_axis_and_fitting_shapes() -> None:
    with pytest.raises(ValueError, match="ascending"):
        summarise_curve(np.array([2.0, 1.0]), np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="do not fit"):
        summarise_curve(np.array([1.0, 2.0]), np.ones((3, 2)), np.ones((3, 3)))


# The images.


def test_subsets_are_nested_and_keep_the_ratio_of_classes() -> None:
    episode = noise_episode(load("shipped/digits-cnn"))
    smaller, larger = episode.adapting_to(2), episode.adapting_to(4)
    ratio = len(episode.neg) / len(episode.pos)
    for subset, count in ((smaller, 2), (larger, 4)):
        assert (len(subset.pos), len(subset.neg)) == (count, np.ceil(count * ratio))
        assert np.array_equal(subset.pos, episode.pos[:count])
    assert np.array_equal(larger.neg[: len(smaller.neg)], smaller.neg)
    seen = larger.tested_on_seen()
    images = seen.make(np.arange(len(seen.present)))
    assert np.array_equal(images[seen.present], larger.pos)
    assert np.array_equal(images[~seen.present], larger.neg)


# A closed form.


def test_the_curve_of_lda_on_gaussian_features_is_the_one_of_theory() -> None:
    # Two normal classes in p dimensions with means a distance D apart. With n images of each, the means
    # have errors and the covariance has v = 2 n - 2 degrees of freedom. For n and p that grow together,
    # d_a = D^2 / sqrt(D^2 + 2 p / n) sqrt(1 - p / v) (Raudys 1967; Fujikoshi 2000).
    p, distance, draws = 12, 2.5, 60
    mean = torch.zeros(p)
    mean[0] = distance
    backbone = Backbone(
        {"flat": nn.Flatten()},
        name="test/flat",
        labels=None,
        preprocessing=Preprocessing(2, 2, (0, 0, 0), (1, 1, 1)),
    )
    submission = load_submission("lda")
    adapt = import_adapt(submission.folder)
    # One candidate: no shrinkage to speak of.
    settings = {"lowest": -9.0, "candidates": 1, "precision": "float32"}
    numbers = np.array([16.0, 32.0, 64.0, 128.0])
    d_a = np.empty((draws, len(numbers)))
    generator = torch.Generator().manual_seed(0)
    for draw in range(draws):
        images = (
            torch.randn(2, 128, p, generator=generator) + torch.stack([mean, 0 * mean])[:, None]
        )
        pos, neg = images.unflatten(2, (3, 2, 2))
        for place, n in enumerate(numbers.astype(int)):  # nested subsets
            weight = adapt(backbone, pos[:n], neg[:n], **settings).weight.detach()
            # Of a linear read-out of normal features, d_a is known without test images.
            d_a[draw, place] = weight @ mean / weight.norm()
    theory = (
        distance**2 / np.sqrt(distance**2 + 2 * p / numbers) * np.sqrt(1 - p / (2 * numbers - 2))
    )
    assert d_a.mean(axis=0) == pytest.approx(theory, rel=0.03)
    # The area under the curve is therefore that of theory, too, and without lag here.
    summary = summarise_curve(numbers, d_a, np.zeros_like(d_a))
    assert summary.area.value == pytest.approx(mean_height(numbers, theory[None])[0], rel=0.03)
    assert summary.needed.value == pytest.approx(needed_for_share(numbers, theory), rel=0.1)


# From the submission to the curve.


def test_a_memorising_method_has_the_largest_lag(
    tmp_path: Path, task: Path, submission_folder: Callable[[str, str], Path]
) -> None:
    memory = submission_folder("memory", NEAREST_NEIGHBOUR)
    curves = attnbench.curve([memory, "none"], tasks=task, records=tmp_path, images=[1, 2, "all"])
    memorising, untouched = curves
    assert memorising.abscissa == untouched.abscissa == (1, 2, 8)
    # It knows every image that it has seen.
    assert (memorising.auc_seen == 1).all()
    assert memorising.summary.lag.value > untouched.summary.lag.high
    # A method without parameters has learned nothing by heart.
    assert untouched.summary.lag.low < 0 < untouched.summary.lag.high
    # The untouched network does not depend on how many images there are.
    assert np.ptp(untouched.d_a, axis=1) == pytest.approx(0)
    assert svg(curve_plot(curves)).startswith(b"<?xml")


def test_curves_resume_and_other_commands_do_not_see_their_records(
    tmp_path: Path, task: Path
) -> None:
    first = attnbench.curve("prototype", tasks=task, records=tmp_path, images=[2])
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / CURVES).rglob("*.json")}
    assert len(written) == 2  # on held-out and on seen images
    again = attnbench.curve("prototype", tasks=task, records=tmp_path, images=[2, "all"])
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert again[0].d_a[:, 0] == pytest.approx(first[0].d_a[:, 0])
    assert RecordStore(tmp_path).load_all() == ([], [])
    # All images are what `evaluate` adapts on.
    attnbench.evaluate("prototype", tasks=task, records=tmp_path)
    ((_, record),) = RecordStore(tmp_path).load_all()[0]
    measures = [episode.measures.d_a for episode in record.episodes if episode.measures]
    assert again[0].d_a[:, -1] == pytest.approx(measures)


def test_a_curve_is_that_of_an_independent_script(tmp_path: Path, task: Path) -> None:
    (curve,) = attnbench.curve("prototype", tasks=task, records=tmp_path, images=[2, "all"])
    submission = load_submission("prototype")
    adapt = import_adapt(submission.folder)
    for target, auc, auc_seen in zip(curve.targets, curve.auc, curve.auc_seen, strict=True):
        episode = attnbench.episode(task, target)
        held_out = torch.from_numpy(episode.drawn.make(np.arange(len(episode.present))))
        for place, n in enumerate((2, 8)):
            pos, neg = episode.pos[:n], episode.neg[: 2 * n]  # there are twice as many negatives
            settings = submission.hyperparameters_for(episode.backbone.name)
            detector = adapt(episode.backbone, pos, neg, **settings)
            with torch.no_grad():
                scores, seen = detector(held_out), detector(torch.cat([pos, neg]))
            assert auc[place] == pytest.approx(roc_auc_score(episode.present, scores), abs=0.002)
            is_positive = np.arange(3 * n) < n
            assert auc_seen[place] == pytest.approx(roc_auc_score(is_positive, seen), abs=0.002)


def test_a_budget_is_an_axis_of_its_own(tmp_path: Path, task: Path) -> None:
    (curve,) = attnbench.curve("attention", tasks=task, records=tmp_path, budget=[1, 4])
    assert (curve.axis, curve.abscissa, curve.key.submission) == ("steps", (1, 4), "attention")
    records = [record for _, record in RecordStore(tmp_path / CURVES).load_all()[0]]
    assert {record.identity.images for record in records} == {8}
    assert len({_artefact(record) for record in records}) == 2  # one adaptation for each value


def test_methods_without_a_budget_are_points_beside_those_with_one(
    tmp_path: Path, task: Path
) -> None:
    curves = attnbench.curve(["bias_only", "none"], tasks=task, records=tmp_path, budget="declared")
    along, point = curves
    assert along.axis == "steps" and len(along.abscissa) > 1
    assert (point.axis, point.abscissa, point.d_a.shape[1]) == ("no budget", (1.0,), 1)
    assert np.isfinite([*along.contended_passes, *point.contended_passes]).all()
    assert b"Pareto" in svg(curve_plot(curves))


def _artefact(record: Record) -> str | None:
    return record.episodes[0].artefact_sha256


def test_what_cannot_be_measured_is_said_in_a_sentence(tmp_path: Path, task: Path) -> None:
    with pytest.raises(AttnbenchError, match="noisy has 8 positives to adapt on"):
        attnbench.curve("none", tasks=task, records=tmp_path, images=[16])
    with pytest.raises(AttnbenchError, match="none declares no budget"):
        attnbench.curve("none", tasks=task, records=tmp_path, budget="declared")


def test_a_method_that_fails_everywhere_has_no_curve(
    tmp_path: Path, task: Path, submission_folder: Callable[[str, str], Path]
) -> None:
    broken = submission_folder("broken", "def adapt(backbone, pos, neg): raise ValueError('no')")
    with pytest.raises(AttnbenchError, match=r"broken has no curve on noisy.*no target"):
        attnbench.curve(broken, tasks=task, records=tmp_path, images=[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "1,two"], "'two' is not a number of images"),
        (["--images", ","], "name at least one"),
        (["--budget", "1,-2"], "'-2' is not a positive number"),
        (["--budget", "3"], "name at least two values"),
        (["--plot", "curve.pdf"], "must end in .svg or .png"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str) -> None:
    ended = run("curve", "none", *arguments)
    assert ended.returncode == 2
    assert message in " ".join(ended.stderr.replace("│", " ").split())


def test_the_command_prints_a_table_or_json(tmp_path: Path, task: Path) -> None:
    command = ["curve", "none", "--task", task, "--images", "1,all"]
    command += ["--records", tmp_path / "records"]
    plot = tmp_path / "curve.svg"
    table = run(*command, "--plot", plot, environment={"COLUMNS": "80"}).stdout
    assert "noisy (mini, shipped/digits-cnn)" in table and "none: area" in table
    assert max(map(len, table.splitlines())) <= 80
    assert plot.read_bytes().startswith(b"<?xml")
    lines = run(*command, "--json").stdout
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["value"] for row in rows] == [1, 8] and all(row["targets"] == 3 for row in rows)
