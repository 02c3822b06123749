"""Training, detectors and layers, against closed forms and scikit-learn."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import softplus

from attnbench.adaptation import (
    Detector,
    Gains,
    GlobalAveragePool,
    OutputBias,
    balanced_loss,
    fit_adam,
    fit_gauss_newton,
    fit_lbfgs,
    fit_lbfgs_cv,
    log_odds,
    middle_stage,
    num_channels,
    pooled_encoder,
    replace_modules,
    select_by_validation,
    separation,
    stages_with_maps,
    validation_split,
)
from attnbench.adaptation.detectors import LinearReadout, LogOdds
from attnbench.statistics.detection import detect
from tests.conftest import small_backbone


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(20, 7, dtype=torch.float64)
    p = logits.softmax(dim=1)[:, 2]
    torch.testing.assert_close(log_odds(logits, 2), torch.log(p / (1 - p)))
    assert log_odds(torch.zeros(1, 2), 0).item() == 0.0
    assert log_odds(torch.zeros(1, 11), 3).item() == pytest.approx(-math.log(10))


def test_separation_is_the_d_a_of_normal_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    pos, neg = (
        1.5 + 2 * torch.randn(50_000, generator=generator),
        torch.randn(60_000, generator=generator),
    )
    measured = separation(pos, neg).item()
    assert measured == pytest.approx(1.5 / math.sqrt((4 + 1) / 2), abs=0.02)
    present = np.repeat([True, False], [50_000, 60_000])
    by_rank = detect(torch.cat([pos, neg]).numpy(), present).d_a
    assert measured == pytest.approx(by_rank, abs=0.02)
    # It depends neither on a threshold nor on the unit.
    assert separation(3 * pos + 7, 3 * neg + 7).item() == pytest.approx(measured, rel=1e-4)
    assert separation(torch.ones(1), torch.zeros(1)).item() == 0


def train_with_adam(readout: LinearReadout, pos: Tensor, neg: Tensor) -> None:
    # Steps on batches scatter around the optimum by about the learning rate, so it is lowered.
    for learning_rate in (0.03, 0.003, 0.0003):
        fit_adam(readout, pos, neg, learning_rate=learning_rate, epochs=100)


def train_with_lbfgs(readout: LinearReadout, pos: Tensor, neg: Tensor) -> None:
    fit_lbfgs(readout, pos, neg, steps=100)


def train_with_gauss_newton(readout: LinearReadout, pos: Tensor, neg: Tensor) -> None:
    fit_gauss_newton(readout, pos, neg, steps=30)


@pytest.mark.parametrize(
    ("train", "tolerance"),
    [(train_with_adam, 0.03), (train_with_lbfgs, 3e-3), (train_with_gauss_newton, 2e-3)],
)
def test_training_is_class_balanced_logistic_regression(
    train: Callable[..., None], tolerance: float
) -> None:
    pos, neg = two_clouds()
    readout = LinearReadout(3)
    train(readout, pos, neg)
    features = np.concatenate([pos, neg])
    labels = np.repeat([1, 0], [40, 160])
    expected = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-8, max_iter=1000)
    expected.fit(features, labels)
    weight, bias = readout.weight.detach().numpy()[None], readout.bias.detach().numpy()[None]
    np.testing.assert_allclose(weight, expected.coef_, atol=tolerance)
    np.testing.assert_allclose(bias, expected.intercept_, atol=tolerance)


def two_clouds() -> tuple[Tensor, Tensor]:
    """Return 40 positives and 160 negatives `[n, 3]` that overlap."""
    generator = torch.Generator().manual_seed(1)
    pos = torch.randn(40, 3, generator=generator) + 0.7
    neg = torch.randn(160, 3, generator=generator) - 0.2
    return pos, neg


def test_the_penalty_is_an_l2_penalty_and_independent_of_units() -> None:
    pos, neg = two_clouds()
    readout, scaled = LinearReadout(3), LinearReadout(3)
    fit_lbfgs(readout, pos, neg, steps=100, penalty=0.01)
    fit_lbfgs(scaled, 10 * pos, 10 * neg, steps=100, penalty=0.01)
    squared_length = torch.cat([pos, neg]).square().sum(dim=1).mean().item()
    # In scikit-learn the weights of the losses sum to n, here they sum to 1.
    c = 1 / (200 * 0.01 * squared_length)
    expected = LogisticRegression(C=c, class_weight="balanced", tol=1e-8)
    expected.fit(np.concatenate([pos, neg]), np.repeat([1, 0], [40, 160]))
    weight, bias = readout.weight.detach().numpy()[None], readout.bias.detach().numpy()[None]
    np.testing.assert_allclose(weight, expected.coef_, atol=3e-3)
    np.testing.assert_allclose(bias, expected.intercept_, atol=3e-3)
    torch.testing.assert_close(10 * scaled.weight, readout.weight, atol=3e-3, rtol=3e-3)


@pytest.mark.parametrize("distance", [0.0, 0.5, 5.0])
def test_a_regularisation_path_finds_the_solution_of_the_chosen_penalty(distance: float) -> None:
    generator = torch.Generator().manual_seed(3)
    pos = torch.randn(30, 40, generator=generator) + distance * torch.eye(40)[0]
    neg = torch.randn(30, 40, generator=generator)
    penalties = (1.0, 1e-1, 1e-2, 1e-3)

    def initial() -> LinearReadout:
        readout = LinearReadout(40)
        # Not zero: later solutions on the path must be penalised for the change from here as well.
        readout.weight.data += 0.1
        return readout

    def fit_once(penalty: float, pos: Tensor, neg: Tensor) -> LinearReadout:
        readout = initial()
        fit_lbfgs(readout, pos, neg, steps=200, penalty=penalty)
        return readout

    readout = initial()
    fit_lbfgs_cv(readout, pos, neg, steps=200, penalties=penalties)
    expected = fit_once(select_by_validation(penalties, fit_once, pos, neg), pos, neg)
    torch.testing.assert_close(readout.weight, expected.weight, atol=0.02, rtol=0.02)
    torch.testing.assert_close(readout.bias, expected.bias, atol=0.02, rtol=0.02)


def test_training_a_layer_in_the_span_of_the_images_gives_the_same_layer() -> None:
    torch.manual_seed(0)
    pos, neg = torch.randn(9, 60) + 0.3, torch.randn(12, 60) - 0.3
    images = torch.cat([pos, neg])
    initial = nn.Sequential(nn.Linear(60, 5), LogOdds(1))
    full, projected = copy.deepcopy(initial), copy.deepcopy(initial)
    fit_lbfgs(full, pos, neg, steps=300, penalty=0.3)
    fit_lbfgs_cv(projected, pos, neg, steps=300, penalties=[0.3])

    @torch.no_grad()
    def change_and_cost(network: nn.Sequential) -> tuple[Tensor, float]:
        change = network[0].weight - initial[0].weight
        penalty = 0.3 / 2 * images.square().sum(dim=1).mean() * change.square().sum()
        return change, (balanced_loss(network(pos), network(neg)) + penalty).item()

    (change, cost), (expected, lowest) = change_and_cost(projected), change_and_cost(full)
    assert cost == pytest.approx(lowest, rel=2e-3)
    torch.testing.assert_close(change, expected, atol=0.005, rtol=0.01)
    # There is no change in any direction that is orthogonal to all images.
    basis, _ = torch.linalg.qr(images.T)
    assert (change - change @ basis @ basis.T).abs().max() < 1e-5


def test_a_step_of_lbfgs_takes_little_more_than_one_pass_over_the_images() -> None:
    pos, neg = two_clouds()
    readout, calls = LinearReadout(3), []
    readout.register_forward_hook(lambda *_: calls.append(1))
    fit_lbfgs(readout, pos, neg, steps=8)
    assert 8 <= len(calls) <= 12


def test_gauss_newton_needs_few_steps_and_keeps_gains_nonnegative() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(20, 30), nn.ReLU(), Gains(torch.ones(30)), nn.Linear(30, 4), LogOdds(1)
    ).requires_grad_(False)
    gains = network[2].requires_grad_(True).gains
    pos, neg = torch.randn(25, 20) + 0.3, torch.randn(25, 20) - 0.3
    by_gauss_newton, by_adam = copy.deepcopy(network), copy.deepcopy(network)
    fit_gauss_newton(by_gauss_newton, pos, neg, steps=2, nonnegative=[by_gauss_newton[2].gains])
    fit_adam(by_adam, pos, neg, learning_rate=0.03, epochs=10)
    trained = by_gauss_newton[2].gains
    assert trained.min() >= 0 and not torch.equal(trained, gains)
    with torch.no_grad():
        initial, after_two_steps, after_ten_epochs = (
            balanced_loss(scorer(pos), scorer(neg))
            for scorer in (network, by_gauss_newton, by_adam)
        )
    assert after_two_steps < after_ten_epochs < initial
    # With more weight on the target, positives are fitted better and negatives worse.
    weighted = copy.deepcopy(network)
    fit_gauss_newton(weighted, pos, neg, steps=2, target_weight=0.9)
    with torch.no_grad():
        balanced_ratio, weighted_ratio = (
            softplus(-scorer(pos)).mean() / softplus(scorer(neg)).mean()
            for scorer in (by_gauss_newton, weighted)
        )
    assert weighted_ratio < balanced_ratio


@pytest.mark.parametrize("penalty", [0.3, 0.03, 0.003])
def test_gauss_newtons_penalty_is_that_of_lbfgs_over_the_number_of_images(penalty: float) -> None:
    pos, neg = two_clouds()
    by_gauss_newton, by_lbfgs = LinearReadout(3), LinearReadout(3)
    count = len(pos) + len(neg)
    fit_gauss_newton(by_gauss_newton, pos, neg, steps=30, penalty=penalty * count)
    fit_lbfgs(by_lbfgs, pos, neg, steps=100, penalty=penalty)
    torch.testing.assert_close(by_gauss_newton.weight, by_lbfgs.weight, rtol=0.1, atol=0.02)
    torch.testing.assert_close(by_gauss_newton.bias, by_lbfgs.bias, rtol=0.1, atol=0.02)


def test_gauss_newton_stops_where_little_can_be_gained_and_skips_the_last_gradients() -> None:
    class RecordingReadout(LinearReadout):
        def forward(self, outputs: Tensor) -> Tensor:
            with_gradients.append(torch.is_grad_enabled())
            return super().forward(outputs)

    pos, neg = two_clouds()
    # The scores are linear in the parameters, so the first step is all there is to gain.
    for steps, passes in ((1, [True, False]), (30, [True, True])):
        with_gradients: list[bool] = []
        fit_gauss_newton(RecordingReadout(3), pos, neg, steps=steps, penalty=30.0)
        # Positives and negatives are separate batches.
        assert with_gradients[::2] == with_gradients[1::2] == passes


def test_an_epoch_uses_each_image_once_and_both_classes_in_each_batch() -> None:
    class RecordingReadout(LinearReadout):
        def forward(self, x: Tensor) -> Tensor:
            batches.append(x[:, 0].tolist())
            return super().forward(x)

    batches: list[list[float]] = []
    pos, neg = torch.arange(5.0)[:, None], torch.arange(100.0, 160.0)[:, None]
    fit_adam(RecordingReadout(1), pos, neg, learning_rate=0.01, epochs=1)
    assert len(batches) == 5
    assert sorted(itertools.chain(*batches)) == [*range(5), *range(100, 160)]
    assert all(min(batch) < 100 <= max(batch) for batch in batches)


@given(st.integers(2, 40))
def test_validation_rows_are_a_quarter_and_not_trained_on(count: int) -> None:
    training, validation = validation_split(torch.arange(count))
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(count))
    assert len(training) >= 1 and abs(len(validation) - count / 4) < 1


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="at least two images of each class"):
        validation_split(torch.zeros(1))


def test_the_candidate_with_the_lowest_validation_loss_is_selected() -> None:
    pos, neg = torch.full((8, 1), 1.0), torch.full((8, 1), -1.0)
    calls = []

    def fit(slope: float, pos: Tensor, neg: Tensor) -> Callable[[Tensor], Tensor]:
        calls.append((slope, len(pos), len(neg)))
        return lambda features: slope * features[:, 0]

    assert select_by_validation([-1.0, 0.0, 3.0, 2.0], fit, pos, neg) == 3.0
    assert calls[0] == (-1.0, 6, 6)
    assert balanced_loss(torch.zeros(3), torch.zeros(9)).item() == pytest.approx(math.log(2))


def test_a_detector_reads_out_the_target_or_a_trained_direction() -> None:
    backbone, images = small_backbone(), torch.randn(2, 3, 16, 16)
    known = Detector(backbone, 1, images[:1])
    torch.testing.assert_close(known(images), log_odds(backbone(images), 1))
    new = Detector(backbone.after("block1"), None, images[:1], frozen=backbone.upto("block1"))
    assert {name for name, parameter in new.named_parameters() if parameter.requires_grad} == {
        "readout.weight",
        "readout.bias",
    }
    assert new(images).tolist() == [0, 0]
    new.readout.weight.data[2] = 1.0
    torch.testing.assert_close(new(images), backbone(images)[:, 2])
    torch.testing.assert_close(new.scorer(new.frozen_features(images, images)[1]), new(images))


def test_a_bias_changes_one_output_and_gains_scale_channels() -> None:
    outputs = torch.randn(4, 3)
    bias = OutputBias(1)
    bias.bias.data += 2
    torch.testing.assert_close(bias(outputs) - outputs, torch.tensor([[0.0, 2, 0]]).expand(4, 3))
    gains = Gains(torch.tensor([1.0, 0.0, 2.0]))
    for shape, channel_dim in (((4, 3), 1), ((4, 5, 3), 2), ((4, 3, 5, 5), 1)):
        scaled = gains(torch.ones(shape)).movedim(channel_dim, -1)
        torch.testing.assert_close(scaled, gains.gains.expand(scaled.shape))


def test_the_middle_stage_is_the_middle_one_of_those_with_maps() -> None:
    backbone = small_backbone()
    shapes = stages_with_maps(backbone, torch.randn(1, 3, 16, 16))
    assert middle_stage(backbone, shapes) == "block2"
    assert num_channels(torch.Size([7, 16])) == num_channels(torch.Size([16, 4, 4])) == 16


def test_a_pooled_encoder_ends_before_the_head() -> None:
    backbone, images = small_backbone(), torch.randn(2, 3, 16, 16)
    maps = backbone.upto("block2")(images)
    torch.testing.assert_close(pooled_encoder(backbone)(images), maps.mean(dim=(2, 3)))
    assert GlobalAveragePool()(maps.flatten(2).transpose(1, 2)).shape == (2, 16)
    shapes = stages_with_maps(backbone, images[:1])
    assert {name: tuple(shape) for name, shape in shapes.items()} == {
        "block1": (8, 8, 8),
        "block2": (16, 8, 8),
    }


def test_modules_are_replaced_in_place() -> None:
    backbone, images = small_backbone(), torch.randn(2, 3, 16, 16)
    expected = backbone(images)
    replacements = replace_modules(
        backbone, nn.Conv2d, lambda convolution: nn.Sequential(convolution, nn.Identity())
    )
    assert len(replacements) == 2
    assert replacements[1] is backbone.stage("block2")[0]  # type: ignore[index]
    torch.testing.assert_close(backbone(images), expected)
