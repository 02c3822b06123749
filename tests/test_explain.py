"""`attnbench explain`: which channels are amplified, and where; and the masks of figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

import attnbench
from attnbench.errors import AttnbenchError
from attnbench.statistics.amplification import (
    channel_sensitivities,
    rank_correlation,
    share_inside,
)
from attnbench.stimuli import figures
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

# Multiplies the channels after the second stage by 1.0, 1.1, 1.2, …
KNOWN_GAINS = """
    import torch
    from torch import nn

    class Gains(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.gains = nn.Parameter(1 + torch.arange(channels) / 10)

        def forward(self, maps):
            return maps * self.gains[:, None, None]

    class Detector(nn.Module):
        def __init__(self, network, target):
            super().__init__()
            self.network, self.target = network, target

        def forward(self, images):
            return self.network(images)[:, self.target]

    def adapt(backbone, pos, neg):
        name = backbone.stages[1]
        channels = backbone.output_shapes(pos[:1])[name][0]
        target = backbone.target
        backbone.insert_after(name, Gains(channels))
        return Detector(backbone, target)
"""


def test_known_gains_are_recovered(submission_folder: Callable[[str, str], Path]) -> None:
    found = attnbench.explain(submission_folder("known", KNOWN_GAINS))
    assert found.stage == found.episode.backbone.stages[2]
    expected = 1 + np.arange(len(found.gains)) / 10
    loud = np.isfinite(found.gains)
    assert loud.any() and found.gains[loud] == pytest.approx(expected[loud], rel=1e-4)
    # A channel's change is its activation times its gain less 1, so the map is not negative.
    assert found.change is not None and (found.change >= 0).all()
    assert found.inside is not None and all(0 <= share <= 1 for share in found.inside)


def test_a_method_that_changes_no_stage_has_nothing_to_explain() -> None:
    with pytest.raises(AttnbenchError, match="bias_only changes the input of no stage"):
        attnbench.explain("bias_only")


def test_the_command_draws_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "attention.png"
    ended = run("explain", "attention", "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert "rank correlation of the gains" in ended.stdout and "inside the object" in ended.stdout
    assert out.read_bytes().startswith(b"\x89PNG")


def test_sensitivities_of_channels_are_those_of_scikit_learn_s_auc() -> None:
    rng = np.random.default_rng(0)
    present = np.arange(60) < 20
    responses = rng.normal(size=(60, 5)) + np.outer(present, np.arange(5))
    areas = [roc_auc_score(present, column) for column in responses.T]
    expected = np.sqrt(2) * scipy.stats.norm.ppf(areas)
    # Areas at the ceiling are corrected.
    inner = np.array(areas) < 0.99
    found = channel_sensitivities(responses, present)
    assert found[inner] == pytest.approx(expected[inner], abs=0.02)


def test_rank_correlations_are_scipy_s_and_need_different_values() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=40)
    second = first + rng.normal(size=40)
    r, low, high = rank_correlation(first, second)
    assert r == pytest.approx(scipy.stats.spearmanr(first, second).statistic)
    assert low < r < high
    with_gap = np.append(first, np.nan), np.append(second, 3.0)
    assert rank_correlation(*with_gap) == (r, low, high)
    assert np.isnan(rank_correlation(np.ones(9), np.arange(9.0))).all()
    assert rank_correlation(np.arange(9.0), np.arange(9.0)) == pytest.approx((1, 1, 1))


def test_the_interval_of_a_rank_correlation_covers_the_truth() -> None:
    rng = np.random.default_rng(2)
    true_pearson = 0.5
    true = 6 / np.pi * np.arcsin(true_pearson / 2)  # Spearman's of a normal distribution
    covered = 0
    for _ in range(400):
        pairs = rng.multivariate_normal([0, 0], [[1, true_pearson], [true_pearson, 1]], 96)
        _, low, high = rank_correlation(*pairs.T)
        covered += low <= true <= high
    assert 0.92 < covered / 400 < 0.98


def test_the_share_inside_a_mask() -> None:
    maps = np.array([[[1.0, 3.0], [0.0, 4.0]], np.zeros((2, 2))])
    masks = np.array([[[1.0, 0.5], [1.0, 0.0]]] * 2)
    shares = share_inside(maps, masks)
    assert shares[0] == pytest.approx(2.5 / 8) and np.isnan(shares[1])


def test_figures_differ_only_inside_their_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two textures of the same shape, drawn with the same random numbers."""
    monkeypatch.setattr(figures, "_rng", lambda *_: np.random.default_rng(5))
    plain, striped = (figures.CLASSES.index(f"warm {name} star") for name in ("plain", "striped"))
    one, other = (figures.draw("test", label, np.arange(1))[0] for label in (plain, striped))
    mask = figures.masks("test", plain, np.arange(1))[0]
    changed = (one != other).any(axis=0)
    assert changed.any() and (mask[changed] > 0).all()
    assert mask.min() >= 0 and mask.max() <= 1
    assert figures.masks("test", plain, np.arange(0)).shape == (0, 48, 48)
