"""What submissions share: against closed forms and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import nn

from attnbench.adaptation import (
    Detector,
    Pooled,
    balanced_loss,
    batches,
    best,
    encoder,
    fit,
    frozen_outputs,
    held_out,
    log_odds,
    replace,
    stages_with_maps,
)
from tests.conftest import small_backbone


@given(st.integers(1, 300), st.integers(1, 200_000))
def test_batches_hold_every_row_once_and_little_at_a_time(count: int, width: int) -> None:
    rows = torch.empty(1, width).expand(count, width)
    cut = list(batches(rows))
    assert [i for piece in cut for i in range(count)[piece]] == list(range(count))
    assert all(len(range(count)[piece]) * width * 4 <= (10 << 20) + 4 * width for piece in cut)


def test_frozen_outputs_are_the_networks_own() -> None:
    network = small_backbone()
    images = torch.randn(70, 3, 224, 224)
    with torch.no_grad():
        expected = network(images)
    found = frozen_outputs(network, images)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(20, 7, dtype=torch.float64)
    p = logits.softmax(dim=1)[:, 2]
    torch.testing.assert_close(log_odds(logits, 2), torch.log(p / (1 - p)))
    assert log_odds(torch.zeros(1, 2), 0).item() == 0.0
    assert log_odds(torch.zeros(1, 11), 3).item() == pytest.approx(-math.log(10))


def test_the_fit_is_class_balanced_logistic_regression() -> None:
    generator = torch.Generator().manual_seed(1)
    pos = torch.randn(40, 3, generator=generator) + 0.7
    neg = torch.randn(160, 3, generator=generator) - 0.2
    read = nn.Linear(3, 1)
    fit(
        lambda x: read(x).squeeze(1),
        read.parameters(),
        pos,
        neg,
        learning_rate=0.05,
        epochs=1500,
    )
    features = np.concatenate([pos, neg])
    present = np.repeat([1, 0], [40, 160])
    expected = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-8, max_iter=1000)
    expected.fit(features, present)
    np.testing.assert_allclose(read.weight.detach().numpy(), expected.coef_, atol=2e-3)
    np.testing.assert_allclose(read.bias.detach().numpy(), expected.intercept_, atol=2e-3)


@given(st.integers(2, 40))
def test_what_is_held_out_is_a_quarter_and_not_adapted_on(count: int) -> None:
    kept, held = held_out(torch.arange(count))
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(count))
    assert len(kept) >= 1 and abs(len(held) - count / 4) < 1
    with pytest.raises(ValueError, match="two on each side"):
        held_out(torch.zeros(1))


def test_the_best_setting_is_the_one_that_generalises() -> None:
    pos, neg = torch.full((8, 1), 1.0), torch.full((8, 1), -1.0)
    seen = []

    def scorer(slope: float, pos: torch.Tensor, neg: torch.Tensor) -> Callable[..., torch.Tensor]:
        seen.append((slope, len(pos), len(neg)))
        return lambda features: slope * features[:, 0]

    assert best([-1.0, 0.0, 3.0, 2.0], scorer, pos, neg) == 3.0
    assert seen[0] == (-1.0, 6, 6)
    assert balanced_loss(torch.zeros(3), torch.zeros(9)).item() == pytest.approx(math.log(2))


def test_a_detector_reads_the_target_or_learns_to() -> None:
    backbone, image = small_backbone(), torch.randn(2, 3, 16, 16)
    known = Detector(backbone, 1, image[:1])
    torch.testing.assert_close(known(image), log_odds(backbone(image), 1))
    assert known.learned() == []
    new = Detector(backbone, None, image[:1])
    assert [tuple(each.shape) for each in new.learned()] == [(1, 3), (1,)]
    assert new(image).shape == (2,)


def test_an_encoder_ends_before_the_head_and_modules_are_replaced_in_their_place() -> None:
    backbone, image = small_backbone(), torch.randn(2, 3, 16, 16)
    maps = backbone.upto("block2")(image)
    torch.testing.assert_close(encoder(backbone)(image), maps.mean(dim=(2, 3)))
    assert Pooled()(maps.flatten(2).transpose(1, 2)).shape == (2, 16)
    assert {name: tuple(s) for name, s in stages_with_maps(backbone, image[:1]).items()} == {
        "block1": (8, 8, 8),
        "block2": (16, 8, 8),
    }
    before = backbone(image)
    put = replace(backbone, nn.Conv2d, lambda each: nn.Sequential(each, nn.Identity()))
    assert len(put) == 2 and put[1] is backbone.stage("block2")[0]  # type: ignore[index]
    torch.testing.assert_close(backbone(image), before)
