"""Read-outs of frozen features, against closed forms, scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor
from torch.nn.functional import cosine_similarity

from attnbench.adaptation import log_odds, pooled_encoder
from attnbench.backbones import load
from attnbench.statistics.detection import detect
from tests.submissions.adapted import adapt_submission, load_program, noise_images


def gaussians(
    count: tuple[int, int], d: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return samples `[n, d]` of two normal classes, the difference of their means, and covariance.

    Both classes have the same covariance `[d, d]`.
    """
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator) / d**0.5 + torch.eye(d)
    difference = torch.randn(d, generator=generator) * 1.5 / d**0.5
    pos, neg = (torch.randn(n, d, generator=generator) @ mixing.T for n in count)
    return pos + difference, neg, difference, mixing @ mixing.T


def labels(pos: Tensor, neg: Tensor) -> np.ndarray:
    return np.repeat([1, 0], [len(pos), len(neg)])


@pytest.mark.parametrize("count", [(15, 40), (300, 90)])
@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_ridge_equals_scikit_learn(count: tuple[int, int], strength: float) -> None:
    pos, neg, *_ = gaussians(count, 60)
    weight, bias = load_program("ridge_probe").ridge(strength, pos, neg)
    x, y = torch.cat([pos, neg]).double().numpy(), labels(pos, neg)
    weights = len(x) / (2 * np.where(y == 1, *count))
    centred = x - np.average(x, axis=0, weights=weights)
    alpha = strength * (weights[:, None] * centred**2).sum() / len(x)
    expected = Ridge(alpha=alpha).fit(x, 2 * y - 1, sample_weight=weights)
    np.testing.assert_allclose(weight, expected.coef_, rtol=1e-3, atol=1e-5)
    assert bias.item() == pytest.approx(expected.intercept_, abs=1e-4)


def test_the_linear_probe_equals_scikit_learn_on_standardised_features() -> None:
    pos, neg, *_ = gaussians((30, 60), 20)
    weight, bias = load_program("linear_probe").logistic_regression(0.1, pos, neg)
    x = torch.cat([pos, neg]).numpy()
    z = (x - x.mean(0)) / x.std(0)
    expected = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=1000)
    expected.fit(z, labels(pos, neg))
    np.testing.assert_allclose(
        x @ weight.numpy() + bias.item(), expected.decision_function(z), atol=5e-3
    )


@pytest.mark.parametrize("count", [(12, 30), (200, 90)])
def test_lda_equals_scikit_learn(count: tuple[int, int]) -> None:
    pos, neg, *_ = gaussians(count, 50)
    weight, bias = load_program("lda").lda(0.2, pos, neg)
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2, priors=[0.5, 0.5])
    x = torch.cat([pos, neg]).double().numpy()
    classes = [features.double().numpy() for features in (pos, neg)]
    pooled = sum(np.cov(features.T, bias=True) for features in classes) / 2
    shrunk = 0.8 * pooled + 0.2 * np.trace(pooled) / len(pooled) * np.eye(len(pooled))
    formula = np.linalg.solve(shrunk, classes[0].mean(0) - classes[1].mean(0))
    np.testing.assert_allclose(weight, formula, rtol=1e-3, atol=1e-4)
    expected.fit(x, labels(pos, neg))
    np.testing.assert_allclose(weight, expected.coef_[0], rtol=1e-3, atol=1e-4)
    assert bias.item() == pytest.approx(expected.intercept_[0], abs=1e-3)


def test_lda_is_optimal_on_gaussian_data() -> None:
    pos, neg, difference, covariance = gaussians((25_000, 25_000), 10)
    weight, bias = load_program("lda").lda(1e-4, pos[:5000], neg[:5000])
    bayes = torch.linalg.solve(covariance, difference)
    d_prime = (difference @ bayes).sqrt().item()
    x, present = torch.cat([pos[5000:], neg[5000:]]), np.repeat([True, False], 20_000)
    detection = detect((x @ weight + bias).numpy(), present)
    assert detection.d_prime == pytest.approx(d_prime, abs=0.05)
    assert detection.hit_rate == pytest.approx(ndtr(d_prime / 2), abs=0.01)


def test_prototype_is_the_nearest_mean_of_unit_vectors() -> None:
    backbone = load("shipped/figures-vgg")
    pos, neg = noise_images(backbone, 8)
    detector = adapt_submission("prototype", backbone, pos, neg).detector
    encoder, test_images = pooled_encoder(backbone), noise_images(backbone, 20, seed=1)[0]
    with torch.no_grad():
        a, b, x = (encoder(images).double() for images in (pos, neg, test_images))
        centre = (a.mean(0) + b.mean(0)) / 2
        a, b, x = ((f - centre) / (f - centre).norm(dim=1, keepdim=True) for f in (a, b, x))
        expected = (x - b.mean(0)).square().sum(1) - (x - a.mean(0)).square().sum(1)
        scores = detector(test_images)
    torch.testing.assert_close(scores.double(), expected, rtol=1e-3, atol=1e-4)


def test_the_cache_equals_a_plain_loop_and_counts_in_full() -> None:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    pos, neg = noise_images(backbone, 5)
    neg = neg[:3]
    adapted = adapt_submission("tip_adapter", backbone, pos, neg)
    cache = adapted.detector.trainable.cache
    encoder = pooled_encoder(backbone)
    d = cache.keys.shape[1]
    assert adapted.size.parameters_added == 8 * (d + 1) + 1
    largest = cache.values.abs().sum().item()
    assert cache.values.sum().item() == pytest.approx(0, abs=1e-5 * largest)
    test_images = noise_images(backbone, 4, seed=2)[0]
    with torch.no_grad():
        features, keys = encoder(test_images), encoder(torch.cat([pos, neg]))
        scores, logits = adapted.detector(test_images), backbone(test_images)
        for n, x in enumerate(features):
            similarity = sum(
                value * torch.exp(-cache.beta * (1 - cosine_similarity(x, key, dim=0)))
                for key, value in zip(keys, cache.values, strict=True)
            )
            expected = log_odds(logits[n : n + 1], 3)[0] + similarity
            torch.testing.assert_close(scores[n], expected, rtol=1e-3, atol=1e-3)
