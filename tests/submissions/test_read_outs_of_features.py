"""Read-outs of frozen features: against closed forms, scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor
from torch.nn.functional import cosine_similarity

from attnbench.adaptation import encoder, log_odds
from attnbench.backbones import load
from attnbench.statistics.detection import detect
from tests.submissions.adapted import adapted, images, module_of


def gaussians(
    count: tuple[int, int], d: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples `[n, d]` of two normal classes of one covariance, their mean difference, covariance."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator) / d**0.5 + torch.eye(d)
    difference = torch.randn(d, generator=generator) * 1.5 / d**0.5
    pos, neg = (torch.randn(n, d, generator=generator) @ mixing.T for n in count)
    return pos + difference, neg, difference, mixing @ mixing.T


def labels(pos: Tensor, neg: Tensor) -> np.ndarray:
    return np.repeat([1, 0], [len(pos), len(neg)])


@pytest.mark.parametrize("count", [(15, 40), (300, 90)])
@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_ridge_is_scikit_learns(count: tuple[int, int], strength: float) -> None:
    pos, neg, *_ = gaussians(count, 60)
    weight, bias = module_of("ridge_probe").ridge(strength, pos, neg)
    x, y = torch.cat([pos, neg]).double().numpy(), labels(pos, neg)
    s = len(x) / (2 * np.where(y == 1, *count))
    centred = x - np.average(x, axis=0, weights=s)
    alpha = strength * (s[:, None] * centred**2).sum() / len(x)
    expected = Ridge(alpha=alpha).fit(x, 2 * y - 1, sample_weight=s)
    np.testing.assert_allclose(weight, expected.coef_, rtol=1e-3, atol=1e-5)
    assert bias.item() == pytest.approx(expected.intercept_, abs=1e-4)


def test_the_linear_probe_is_scikit_learns_on_standardised_features() -> None:
    pos, neg, *_ = gaussians((30, 60), 20)
    weight, bias = module_of("linear_probe").probe(0.1, pos, neg)
    x = torch.cat([pos, neg]).numpy()
    z = (x - x.mean(0)) / x.std(0)
    expected = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=1000)
    expected.fit(z, labels(pos, neg))
    np.testing.assert_allclose(
        x @ weight.numpy() + bias.item(), expected.decision_function(z), atol=5e-3
    )


@pytest.mark.parametrize("count", [(12, 30), (200, 90)])
def test_lda_is_scikit_learns(count: tuple[int, int]) -> None:
    pos, neg, *_ = gaussians(count, 50)
    weight, bias = module_of("lda").discriminant(0.2, pos, neg)
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2, priors=[0.5, 0.5])
    x = torch.cat([pos, neg]).double().numpy()
    covariances = [np.cov(side.double().numpy().T, bias=True) for side in (pos, neg)]
    pooled = sum(covariances) / 2
    shrunk = 0.8 * pooled + 0.2 * np.trace(pooled) / len(pooled) * np.eye(len(pooled))
    means = [side.double().numpy().mean(0) for side in (pos, neg)]
    by_hand = np.linalg.solve(shrunk, means[0] - means[1])
    np.testing.assert_allclose(weight, by_hand, rtol=1e-3, atol=1e-4)
    expected.fit(x, labels(pos, neg))
    np.testing.assert_allclose(weight, expected.coef_[0], rtol=1e-3, atol=1e-4)
    assert bias.item() == pytest.approx(expected.intercept_[0], abs=1e-3)


def test_lda_is_optimal_on_gaussian_data() -> None:
    pos, neg, difference, covariance = gaussians((25_000, 25_000), 10)
    weight, bias = module_of("lda").discriminant(1e-4, pos[:5000], neg[:5000])
    bayes = torch.linalg.solve(covariance, difference)
    d_prime = (difference @ bayes).sqrt().item()
    x, present = torch.cat([pos[5000:], neg[5000:]]), np.repeat([True, False], 20_000)
    found = detect((x @ weight + bias).numpy(), present)
    assert found.d_prime == pytest.approx(d_prime, abs=0.05)
    assert found.hit_rate == pytest.approx(ndtr(d_prime / 2), abs=0.01)


def test_prototype_is_the_nearest_mean_of_directions() -> None:
    backbone = load("shipped/figures-vgg")
    pos, neg = images(backbone, 8)
    detector = adapted("prototype", backbone, pos, neg).detector
    features = encoder(backbone)
    with torch.no_grad():
        a, b, x = (features(side).double() for side in (pos, neg, images(backbone, 20, seed=1)[0]))
        centre = (a.mean(0) + b.mean(0)) / 2
        a, b, x = ((f - centre) / (f - centre).norm(dim=1, keepdim=True) for f in (a, b, x))
        expected = (x - b.mean(0)).square().sum(1) - (x - a.mean(0)).square().sum(1)
        found = detector(images(backbone, 20, seed=1)[0])
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


def test_the_cache_is_a_plain_loop_and_counts_whole() -> None:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    pos, neg = images(backbone, 5)
    done = adapted("tip_adapter", backbone, pos, neg[:3])
    cache = done.detector.trained.cache
    features = encoder(backbone)
    d = cache.keys.shape[1]
    assert done.size.parameters_added == 8 * (d + 1) + 1
    largest = cache.values.abs().sum().item()
    assert cache.values.sum().item() == pytest.approx(0, abs=1e-5 * largest)
    new = images(backbone, 4, seed=2)[0]
    with torch.no_grad():
        x, kept = features(new), features(torch.cat([pos, neg[:3]]))
        for score, row, logits in zip(done.detector(new), x, backbone(new), strict=True):
            said = sum(
                value * torch.exp(-cache.beta * (1 - cosine_similarity(row, key, dim=0)))
                for key, value in zip(kept, cache.values, strict=True)
            )
            torch.testing.assert_close(
                score, log_odds(logits[None], 3)[0] + said, rtol=1e-3, atol=1e-3
            )


def test_first_spikes_and_their_gradients_are_those_of_plain_loops() -> None:
    spike = module_of("spiking").FirstSpike
    potential = torch.randn(4, 9, 2, generator=torch.Generator().manual_seed(0)).cumsum(1) / 2
    potential[0, :, 0] = -1.0  # never reaches 1
    potential.requires_grad_(True)
    for slope in (None, 3.0):
        first = spike.apply(potential, slope)
        (gradient,) = torch.autograd.grad(first.sum(), potential)
        for n in range(4):
            for k in range(2):
                over = [t for t in range(9) if potential[n, t, k] >= 1]
                t_k = over[0] if over else 8
                assert first[n, k] == t_k
                for t in range(9):
                    s = torch.sigmoid((slope or 0) * (potential[n, t, k].detach() - 1))
                    expected = (
                        float(t == t_k) if slope is None else slope * s * (1 - s) * (t <= t_k)
                    )
                    assert gradient[n, t, k].item() == pytest.approx(-float(expected), abs=1e-6)


def test_an_on_cell_fires_the_earlier_the_stronger_and_off_cells_mirror_it() -> None:
    torch.manual_seed(0)
    readout = module_of("spiking").SpikingReadout(torch.tensor([[-1.0], [1.0]]), 10, 2.0, None, 4.0)
    arrived = readout.arrivals(torch.tensor([[3.0], [1.0], [-1.0], [0.0]]))
    first = [[int(11 - c) for c in row] for row in arrived.sum(dim=1)]  # 11: never
    assert first == [[0, 11], [5, 11], [11, 5], [11, 11]]


@pytest.mark.parametrize("gradient", ["s4nn", "surrogate"])
def test_spiking_neurons_learn(gradient: str) -> None:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    pos, neg = images(backbone, 12)
    detector = adapted("spiking", backbone, pos + 1, neg, gradient=gradient).detector
    with torch.no_grad():
        right = (detector(pos + 1) > 0).float().mean() + (detector(neg) <= 0).float().mean()
    assert right > 1.8


def test_gains_are_one_plus_beta_times_tuning_and_never_negative() -> None:
    module = module_of("feature_similarity")
    pos, neg = torch.rand(6, 5, 4, 4), torch.rand(9, 5, 4, 4)
    pos[:, 4] = neg[:, 4] = 1.0  # always the same: no tuning
    f = module.tuning(pos, neg)
    a, b = pos.mean((2, 3)).numpy(), torch.cat([pos, neg]).mean((2, 3)).numpy()
    a, b = a[:, :4], b[:, :4]
    np.testing.assert_allclose(f[:4], (a.mean(0) - b.mean(0)) / b.std(0), rtol=1e-3)
    assert f[4] == 0
    gain = module.gains(50.0, f)
    expected = pos * (1 + 50 * f).clamp(min=0)[:, None, None]
    torch.testing.assert_close(gain(pos), expected)
    tokens = torch.rand(2, 7, 5)
    torch.testing.assert_close(gain(tokens), tokens * (1 + 50 * f).clamp(min=0))


@pytest.mark.parametrize("stages", ["last", "all", "block1 block3"])
def test_without_strength_feature_similarity_moves_only_the_criterion(stages: str) -> None:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    pos, neg = images(backbone, 6)
    done = adapted(
        "feature_similarity", backbone, pos, neg, per_layer=stages, smallest=0.0, doublings=0
    )
    maps = {"last": 128, "all": 16 + 48 + 96 + 128, "block1 block3": 16 + 96}[stages]
    assert done.size.parameters_added == maps + 1
    with torch.no_grad():
        moved = done.detector(pos) - log_odds(backbone(pos), 3)
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), rtol=1e-3, atol=1e-3)
