"""`attnbench.adaptation.fine_tune`: the read-out first, then everything, at a rate that is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnbench.adaptation import Detector, fine_tune, fine_tuning, separation

CLASSES, TARGET = 4, 2


class Scaled(nn.Module):
    """A frozen linear layer behind trained gains."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(CLASSES, 12, generator=generator), False)
        self.gains = nn.Parameter(torch.ones(12))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) * self.gains) @ self.weight.T


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """Positives and negatives that differ in a direction that the layer does not know."""
    torch.manual_seed(0)
    pos, neg = torch.randn(2, 32, 3, 2, 2)
    pos[:, 0] += 1
    return pos, neg


def detector_for(target: int | None) -> Detector:
    return Detector(Scaled(), target, torch.zeros(1, 3, 2, 2))


def gains_after(target: int | None, images: tuple[Tensor, Tensor], **settings: object) -> Tensor:
    detector = detector_for(target)
    torch.manual_seed(0)
    fine_tune(detector, *images, epochs=3, **settings)  # type: ignore[arg-type]
    gains = detector.trainable.gains
    assert isinstance(gains, Tensor)
    return gains.detach()


def test_a_new_target_has_a_rate_of_its_own(images: tuple[Tensor, Tensor]) -> None:
    for target, rate in ((TARGET, 0.01), (None, 0.3)):
        both = gains_after(target, images, learning_rate=0.01, new_target_rate=0.3)
        assert torch.equal(both, gains_after(target, images, learning_rate=rate))


def test_the_rate_for_a_new_target_is_not_chosen(images: tuple[Tensor, Tensor]) -> None:
    settings = {"learning_rate": 0.01, "new_target_rate": 0.3}
    with_choice = gains_after(None, images, choose_rate=True, **settings)
    assert torch.equal(with_choice, gains_after(None, images, **settings))


def test_of_three_rates_the_one_with_the_highest_held_out_d_a_is_used(
    images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def recorded(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
        found.append(separation(pos_scores, neg_scores))
        # A quarter of the images of each class.
        assert len(pos_scores) == len(neg_scores) == 8
        return found[-1]

    monkeypatch.setattr(fine_tuning, "separation", recorded)
    rates = []
    plain_fit = fine_tuning.fit_adam

    def fit(scorer: nn.Module, pos: Tensor, neg: Tensor, **settings: float) -> None:
        rates.append(settings["learning_rate"])
        plain_fit(scorer, pos, neg, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(fine_tuning, "fit_adam", fit)
    gains_after(TARGET, images, learning_rate=0.3, choose_rate=True)
    assert rates[:3] == pytest.approx([0.3, 0.1, 0.03]) and len(rates) == 4
    assert rates[3] == rates[int(torch.stack(found).argmax())]


def test_a_rate_at_which_training_diverges_is_not_chosen(images: tuple[Tensor, Tensor]) -> None:
    class Steep(Scaled):
        def forward(self, images: Tensor) -> Tensor:
            return (images.flatten(1) * self.gains**24) @ self.weight.T

    finite = []
    for choose_rate in (False, True):
        detector = Detector(Steep(), TARGET, torch.zeros(1, 3, 2, 2))
        torch.manual_seed(0)
        fine_tune(detector, *images, learning_rate=60, epochs=3, choose_rate=choose_rate)
        finite.append(bool(detector(images[0]).isfinite().all()))
    assert finite == [False, True]


def test_trying_rates_leaves_no_trace(images: tuple[Tensor, Tensor]) -> None:
    """If no rate changes anything, the detector is the same as without a choice."""
    with_choice = gains_after(TARGET, images, learning_rate=0.0, choose_rate=True)
    assert torch.equal(with_choice, torch.ones(12))


def test_a_single_image_of_a_class_leaves_no_choice(images: tuple[Tensor, Tensor]) -> None:
    pos, neg = images
    few = pos[:1], neg
    with_choice = gains_after(TARGET, few, learning_rate=0.1, choose_rate=True)
    assert torch.equal(with_choice, gains_after(TARGET, few, learning_rate=0.1))
