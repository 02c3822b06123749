"""Feature-similarity gains: tuning, merged and array images, and the choice of a strength."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from attnbench import Backbone, log_odds
from attnbench.adaptation import Gains, composites, separation
from attnbench.backbones import load
from attnbench.backbones.backbone import Preprocessing
from tests.submissions.adapted import adapt_submission, load_program, noise_images


def test_gains_are_one_plus_beta_times_tuning_and_never_negative() -> None:
    program = load_program("feature_similarity")
    pos, neg = torch.rand(6, 5, 4, 4), torch.rand(9, 5, 4, 4)
    pos[:, 4] = neg[:, 4] = 1.0  # a constant map has no tuning
    f = program.tuning(pos, neg)
    of_target, of_all = pos.mean((2, 3)).numpy(), torch.cat([pos, neg]).mean((2, 3)).numpy()
    of_target, of_all = of_target[:, :4], of_all[:, :4]
    expected_f = (of_target.mean(0) - of_all.mean(0)) / of_all.std(0)
    np.testing.assert_allclose(f[:4], expected_f, rtol=1e-3)
    assert f[4] == 0
    gains = program.gains(50.0, f)
    expected = pos * (1 + 50 * f).clamp(min=0)[:, None, None]
    torch.testing.assert_close(gains(pos), expected)
    tokens = torch.rand(2, 7, 5)
    torch.testing.assert_close(gains(tokens), tokens * (1 + 50 * f).clamp(min=0))


@pytest.mark.parametrize("stages", ["last", "all", "block1 block3"])
def test_feature_similarity_of_zero_strength_moves_only_the_criterion(stages: str) -> None:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    pos, neg = noise_images(backbone, 6)
    adapted = adapt_submission(
        "feature_similarity", backbone, pos, neg, per_layer=stages, smallest=0.0, doublings=0
    )
    maps = {"last": 128, "all": 16 + 48 + 96 + 128, "block1 block3": 16 + 96}[stages]
    assert adapted.size.parameters_added == maps + 1
    with torch.no_grad():
        change = adapted.detector(pos) - log_odds(backbone(pos), 3)
    torch.testing.assert_close(change, change[:1].expand_as(change), rtol=1e-3, atol=1e-3)


def test_merged_images_are_means_and_only_positives_contain_the_target() -> None:
    pos, neg = _coded_images(5), 100 * _coded_images(7)
    with_target, without = composites.merged(pos, neg, 1000)
    expected = {(p + n) / 2 for p in _codes(pos) for n in _codes(neg)}
    assert len(with_target) == 35 and set(_codes(with_target)) == expected
    assert len(without) == 21
    expected = {(a + b) / 2 for a in _codes(neg) for b in _codes(neg) if a != b}
    assert set(_codes(without)) == expected


@pytest.mark.parametrize("size", [8, 9])
def test_arrays_show_four_images_of_which_one_or_none_is_a_positive(size: int) -> None:
    pos, neg = _coded_images(4, size), 100 * _coded_images(5, size)
    with_target, without = composites.arrays(pos, neg, 1000)
    assert with_target.shape == (20, 3, size, size) and without.shape == (10, 3, size, size)
    half = size // 2
    places = set()
    for image in with_target[:, 0]:
        corners = [image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]]
        (place,) = (k for k, corner in enumerate(corners) if corner < 100)
        places.add(place)
        # Each cell is a quarter of the image.
        assert (image[:half, :half] == corners[0]).all() and (
            image[half:, half:] == corners[3]
        ).all()
    assert places == {0, 1, 2, 3}
    assert without.min() >= 100


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 100))
def test_no_pair_occurs_twice_and_all_do_below_the_limit(
    first: int, second: int, limit: int
) -> None:
    of_two = list(
        zip(*(rows.tolist() for rows in composites.pairs(first, second, limit)), strict=True)
    )
    assert len(of_two) == len(set(of_two)) == min(first * second, limit)
    of_one = [
        frozenset(pair)
        for pair in zip(
            *(rows.tolist() for rows in composites.pairs_of_one(first, limit)), strict=True
        )
    ]
    assert len(of_one) == len(set(of_one)) == max(1, min(math.comb(first, 2), limit))
    assert first == 1 or all(len(pair) == 2 for pair in of_one)


def test_a_cell_is_the_mean_of_the_pixels_that_it_covers() -> None:
    image = torch.rand(1, 3, 6, 6)
    cell = composites.grid(image[:, None].expand(1, 4, 3, 6, 6))[:, :, :3, :3]
    torch.testing.assert_close(cell, nn.functional.avg_pool2d(image, 2))


def test_the_strength_is_chosen_for_images_that_hide_the_target() -> None:
    """On ordinary images, the loss is lowest without gains, because the logits are large."""
    backbone, pos, neg = _cluttered(seed=0)
    detector = adapt_submission("feature_similarity", backbone, pos, neg).detector
    (gains,) = (module for module in detector.modules() if isinstance(module, Gains))
    assert gains.gains[0] > 1.5 * gains.gains[1]
    without = adapt_submission(
        "feature_similarity", backbone, pos, neg, smallest=0.0, doublings=0
    ).detector
    _, *others = _cluttered(seed=1)
    with torch.no_grad():
        merged = composites.merged(*others, 1000)
        assert separation(*map(detector, merged)) > separation(*map(without, merged)) + 0.1


def test_the_threshold_fits_ordinary_images_with_the_gains_in_place() -> None:
    backbone, pos, neg = _cluttered(seed=0)
    detector = adapt_submission("feature_similarity", backbone, pos, neg).detector
    with torch.no_grad():
        # Where the derivative of the loss with respect to the threshold is zero.
        misses, false_alarms = (
            torch.sigmoid(-detector(pos)).mean(),
            torch.sigmoid(detector(neg)).mean(),
        )
    torch.testing.assert_close(misses, false_alarms, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("count", [2, 3])
def test_two_images_of_each_class_are_enough(count: int) -> None:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    adapted = adapt_submission("feature_similarity", backbone, *noise_images(backbone, count))
    assert adapted.size.parameters_added == 129


def _coded_images(count: int, size: int = 4) -> Tensor:
    """Return images `[count, 3, size, size]` of constant brightness, 1 to `count`."""
    return torch.arange(1.0, count + 1)[:, None, None, None].expand(-1, 3, size, size).clone()


def _codes(images: Tensor) -> list[float]:
    return images[:, 0, 0, 0].tolist()


def _cluttered(seed: int) -> tuple[Backbone, Tensor, Tensor]:
    """Return a backbone, positives and negatives, with the maps red, green and blue.

    Red shows the target, and green is clutter in every image. The target's logit grows with both.
    """
    head = nn.Linear(3, 2).requires_grad_(False)
    head.weight.copy_(torch.tensor([[12.0, 6.0, 0.0], [0.0, 0.0, 0.0]]))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    half = (0.5, 0.5, 0.5)
    backbone = Backbone(
        {"maps": nn.ReLU(), "pool": pool, "head": head},
        name="test/cluttered",
        labels=("target", "other"),
        preprocessing=Preprocessing(size=4, resize=4, mean=half, std=half),
    )
    backbone.target = 0
    generator = torch.Generator().manual_seed(seed)
    colours = torch.zeros(2, 40, 3)
    colours[:, :, 0] = 0.5 * torch.randn(2, 40, generator=generator)
    colours[0, :, 0] += 1
    colours[:, :, 1] = torch.rand(2, 40, generator=generator)
    pos, neg = colours[..., None, None].expand(-1, -1, -1, 4, 4).clone()
    return backbone, pos, neg
