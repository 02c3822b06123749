"""What submissions share: against closed forms and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import nn

from attnbench.adaptation import batches, fit, frozen_outputs, log_odds
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
