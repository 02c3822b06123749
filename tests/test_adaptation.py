"""What submissions share: against closed forms and scikit-learn."""

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
    Pooled,
    Shift,
    balanced_loss,
    best,
    encoder,
    fit,
    gauss_newton,
    held_out,
    log_odds,
    middle_stage,
    replace,
    solve,
    solve_penalised,
    stages_with_maps,
    width,
)
from attnbench.adaptation.detectors import LogOdds, Readout
from tests.conftest import small_backbone


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(20, 7, dtype=torch.float64)
    p = logits.softmax(dim=1)[:, 2]
    torch.testing.assert_close(log_odds(logits, 2), torch.log(p / (1 - p)))
    assert log_odds(torch.zeros(1, 2), 0).item() == 0.0
    assert log_odds(torch.zeros(1, 11), 3).item() == pytest.approx(-math.log(10))


def by_adam(read: Readout, pos: Tensor, neg: Tensor) -> None:
    # Steps on few images scatter about the optimum by about the rate.
    for rate in (0.03, 0.003, 0.0003):
        fit(read, pos, neg, learning_rate=rate, epochs=100)


def by_lbfgs(read: Readout, pos: Tensor, neg: Tensor) -> None:
    solve(read, pos, neg, steps=100)


def by_gauss_newton(read: Readout, pos: Tensor, neg: Tensor) -> None:
    gauss_newton(read, pos, neg, steps=30)


@pytest.mark.parametrize(
    ("train", "off"), [(by_adam, 0.03), (by_lbfgs, 3e-3), (by_gauss_newton, 2e-3)]
)
def test_training_is_class_balanced_logistic_regression(
    train: Callable[..., None], off: float
) -> None:
    pos, neg = two_clouds()
    read = Readout(3)
    train(read, pos, neg)
    features = np.concatenate([pos, neg])
    present = np.repeat([1, 0], [40, 160])
    expected = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-8, max_iter=1000)
    expected.fit(features, present)
    np.testing.assert_allclose(read.weight.detach().numpy()[None], expected.coef_, atol=off)
    np.testing.assert_allclose(read.bias.detach().numpy()[None], expected.intercept_, atol=off)


def two_clouds() -> tuple[Tensor, Tensor]:
    """40 and 160 points `[n, 3]` that overlap."""
    generator = torch.Generator().manual_seed(1)
    pos = torch.randn(40, 3, generator=generator) + 0.7
    neg = torch.randn(160, 3, generator=generator) - 0.2
    return pos, neg


def test_a_penalty_is_that_of_ridge_and_blind_to_units() -> None:
    pos, neg = two_clouds()
    few, many = Readout(3), Readout(3)
    solve(few, pos, neg, steps=100, penalty=0.01)
    solve(many, 10 * pos, 10 * neg, steps=100, penalty=0.01)
    length = torch.cat([pos, neg]).square().sum(dim=1).mean().item()
    # C sums losses with weights that sum to n; here they sum to 1.
    expected = LogisticRegression(C=1 / (200 * 0.01 * length), class_weight="balanced", tol=1e-8)
    expected.fit(np.concatenate([pos, neg]), np.repeat([1, 0], [40, 160]))
    np.testing.assert_allclose(few.weight.detach().numpy()[None], expected.coef_, atol=3e-3)
    np.testing.assert_allclose(few.bias.detach().numpy()[None], expected.intercept_, atol=3e-3)
    torch.testing.assert_close(10 * many.weight, few.weight, atol=3e-3, rtol=3e-3)


@pytest.mark.parametrize("apart", [0.0, 0.5, 5.0])
def test_a_path_of_penalties_ends_where_the_chosen_one_alone_would(apart: float) -> None:
    generator = torch.Generator().manual_seed(3)
    pos = torch.randn(30, 40, generator=generator) + apart * torch.eye(40)[0]
    neg = torch.randn(30, 40, generator=generator)
    penalties = (1.0, 1e-1, 1e-2, 1e-3)

    def begin() -> Readout:
        read = Readout(40)
        read.weight.data += 0.1  # a penalty is on the change from here, also of a later solution
        return read

    def alone(penalty: float, pos: Tensor, neg: Tensor) -> Readout:
        read = begin()
        solve(read, pos, neg, steps=200, penalty=penalty)
        return read

    found = begin()
    solve_penalised(found, pos, neg, steps=200, penalties=penalties)
    expected = alone(best(penalties, alone, pos, neg), pos, neg)
    torch.testing.assert_close(found.weight, expected.weight, atol=0.02, rtol=0.02)
    torch.testing.assert_close(found.bias, expected.bias, atol=0.02, rtol=0.02)


def test_a_layer_solved_in_the_directions_of_few_images_is_the_same_layer() -> None:
    torch.manual_seed(0)
    pos, neg = torch.randn(9, 60) + 0.3, torch.randn(12, 60) - 0.3
    images = torch.cat([pos, neg])
    origin = nn.Sequential(nn.Linear(60, 5), LogOdds(1))
    whole, few = copy.deepcopy(origin), copy.deepcopy(origin)
    solve(whole, pos, neg, steps=300, penalty=0.3)
    solve_penalised(few, pos, neg, steps=300, penalties=[0.3])

    @torch.no_grad()
    def change_and_cost(found: nn.Sequential) -> tuple[Tensor, float]:
        change = found[0].weight - origin[0].weight
        size = images.square().sum(dim=1).mean() * change.square().sum()
        return change, (balanced_loss(found(pos), found(neg)) + 0.3 / 2 * size).item()

    (change, cost), (expected, least) = change_and_cost(few), change_and_cost(whole)
    assert cost == pytest.approx(least, rel=2e-3)
    torch.testing.assert_close(change, expected, atol=0.005, rtol=0.01)
    # Nothing was learned of what none of the images has.
    directions, _ = torch.linalg.qr(images.T)
    assert (change - change @ directions @ directions.T).abs().max() < 1e-5


def test_a_step_of_lbfgs_takes_little_more_than_one_look_at_the_images() -> None:
    pos, neg = two_clouds()
    read, looks = Readout(3), []
    read.register_forward_hook(lambda *_: looks.append(1))
    solve(read, pos, neg, steps=8)
    assert 8 <= len(looks) <= 12


def test_gauss_newton_needs_few_looks_and_keeps_gains_above_zero() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(20, 30), nn.ReLU(), Gains(torch.ones(30)), nn.Linear(30, 4), LogOdds(1)
    ).requires_grad_(False)
    gains = network[2].requires_grad_(True).gains
    pos, neg = torch.randn(25, 20) + 0.3, torch.randn(25, 20) - 0.3
    quick, slow = copy.deepcopy(network), copy.deepcopy(network)
    gauss_newton(quick, pos, neg, steps=2, nonnegative=[quick[2].gains])
    fit(slow, pos, neg, learning_rate=0.03, epochs=10)
    assert quick[2].gains.min() >= 0 and not torch.equal(quick[2].gains, gains)
    with torch.no_grad():
        losses = [balanced_loss(each(pos), each(neg)) for each in (network, quick, slow)]
    assert losses[1] < losses[2] < losses[0]
    loud = copy.deepcopy(network)
    gauss_newton(loud, pos, neg, steps=2, target_weight=0.9)
    with torch.no_grad():
        shares = [
            softplus(-each(pos)).mean() / softplus(each(neg)).mean() for each in (quick, loud)
        ]
    assert shares[1] < shares[0]


def test_gauss_newton_stops_where_the_loss_is_low_enough() -> None:
    pos, neg = two_clouds()
    read = Readout(3)
    gauss_newton(read, pos, neg, steps=30, enough=0.7)
    assert read.weight.abs().max() == 0


def test_gauss_newton_takes_gradients_only_where_another_step_may_follow() -> None:
    class Watched(Readout):
        def forward(self, outputs: Tensor) -> Tensor:
            gradients.append(torch.is_grad_enabled())
            return super().forward(outputs)

    pos, neg = two_clouds()
    for settings, looks in (
        ({"steps": 2}, [True, True, False]),
        ({"steps": 30, "enough": 0.69}, [True, False]),  # less than log 2: the first step does
        ({"steps": 30, "enough": 0.7}, [True]),
    ):
        gradients: list[bool] = []
        read = Watched(3)
        gauss_newton(read, pos, neg, **settings)  # type: ignore[arg-type]
        assert gradients[::2] == looks and gradients[1::2] == looks  # of positives, of negatives
        with torch.no_grad():
            reached = balanced_loss(read(pos), read(neg)).item()
        assert reached < settings.get("enough", 0.6)


def test_gauss_newton_asks_no_more_images_than_it_takes_to_tell_whether_a_step_was_one() -> None:
    class Curved(Readout):
        """Scores that are not linear in what is learned."""

        def forward(self, outputs: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                asked.append(len(outputs))
            scores = super().forward(outputs)
            return scores + 0.1 * scores**2

    def adapted(pos: Tensor, neg: Tensor, **settings: float) -> float:
        """The loss it reaches; `asked` has how many images were asked for their score only."""
        asked.clear()
        curved = Curved(3)
        gauss_newton(curved, pos, neg, **settings)  # type: ignore[arg-type]
        return balanced_loss(curved(pos), curved(neg)).item()

    asked: list[int] = []
    pos, neg = two_clouds()  # 40 and 160
    reached = adapted(pos, neg, steps=1)
    assert asked == [16, 16]
    # What is a hair above or below the loss that was reached no few images can tell.
    assert adapted(pos, neg, steps=30, enough=reached + 1e-5) == reached
    assert asked == [16, 16, 40, 160]
    assert adapted(pos, neg, steps=2, enough=reached - 1e-5) < reached
    assert asked[:4] == [16, 16, 40, 160]
    # So few that all are asked.
    adapted(pos[:32], neg[:20], steps=1)
    assert asked == [32, 20]


def test_an_epoch_sees_each_image_once_and_both_sides_in_each_step() -> None:
    class Seen(Readout):
        def forward(self, x: Tensor) -> Tensor:
            steps.append(x[:, 0].tolist())
            return super().forward(x)

    steps: list[list[float]] = []
    pos, neg = torch.arange(5.0)[:, None], torch.arange(100.0, 160.0)[:, None]
    fit(Seen(1), pos, neg, learning_rate=0.01, epochs=1)
    assert len(steps) == 5
    assert sorted(itertools.chain(*steps)) == [*range(5), *range(100, 160)]
    assert all(min(step) < 100 <= max(step) for step in steps)


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
    new = Detector(backbone.after("block1"), None, image[:1], frozen=backbone.upto("block1"))
    assert {name for name, each in new.named_parameters() if each.requires_grad} == {
        "read.weight",
        "read.bias",
    }
    assert new(image).tolist() == [0, 0]
    new.read.weight.data[2] = 1.0
    torch.testing.assert_close(new(image), backbone(image)[:, 2])
    torch.testing.assert_close(new.suffix(new.features(image, image)[1]), new(image))


def test_a_shift_moves_one_output_and_a_gain_one_channel() -> None:
    outputs = torch.randn(4, 3)
    shift = Shift(1)
    shift.bias.data += 2
    torch.testing.assert_close(shift(outputs) - outputs, torch.tensor([[0.0, 2, 0]]).expand(4, 3))
    gains = Gains(torch.tensor([1.0, 0.0, 2.0]))
    for shape, moved in (((4, 3), 1), ((4, 5, 3), 2), ((4, 3, 5, 5), 1)):
        found = gains(torch.ones(shape)).movedim(moved, -1)
        torch.testing.assert_close(found, gains.gains.expand(found.shape))


def test_the_middle_stage_is_in_the_middle_of_those_with_maps() -> None:
    backbone = small_backbone()
    shapes = stages_with_maps(backbone, torch.randn(1, 3, 16, 16))
    assert middle_stage(backbone, shapes) == "block2"
    assert width(torch.Size([7, 16])) == width(torch.Size([16, 4, 4])) == 16


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
