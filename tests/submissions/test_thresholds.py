"""Methods with a score for the target learn a threshold with the rest; the published layer has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from attnbench import Backbone, log_odds
from attnbench.adaptation import Detector, Gains, OutputBias
from attnbench.backbones import load
from tests.submissions.adapted import adapt_submission, load_program, noise_images

TARGET = 3
LEARN_A_THRESHOLD = (
    "adapter",
    "attention",
    "bias_only",
    "bitfit",
    "feature_gain",
    "film",
    "full_finetune",
    "ia3",
    "lora",
    "squeeze_excite",
    "stn",
)


@pytest.fixture
def vgg() -> Backbone:
    backbone = load("shipped/figures-vgg")
    backbone.target = TARGET
    return backbone


@pytest.fixture
def images(vgg: Backbone) -> tuple[Tensor, Tensor]:
    return noise_images(vgg, 6)


@pytest.mark.parametrize("name", LEARN_A_THRESHOLD)
def test_the_threshold_is_trained_and_counted(
    name: str, vgg: Backbone, images: tuple[Tensor, Tensor]
) -> None:
    if name in ("ia3", "lora"):
        pytest.importorskip("peft")
    adapted = adapt_submission(name, vgg, *images)
    (threshold,) = (m for m in adapted.detector.modules() if isinstance(m, OutputBias))
    assert threshold.output == TARGET and threshold.bias.item() != 0
    # Without its threshold, the detector would be smaller by one parameter.
    others = sum(
        parameter.numel()
        for name, parameter in adapted.detector.named_parameters()
        if parameter.requires_grad and not name.endswith(".bias")
    )
    assert adapted.size.parameters_added + adapted.size.parameters_changed >= others + 1


@pytest.mark.parametrize("name", ["none", "last_layer"])
def test_no_threshold_is_added_where_nothing_or_a_whole_head_is_trained(
    name: str, vgg: Backbone, images: tuple[Tensor, Tensor]
) -> None:
    detector = adapt_submission(name, vgg, *images).detector
    assert not any(isinstance(module, OutputBias) for module in detector.modules())


def test_a_target_without_a_label_needs_no_second_threshold(vgg: Backbone) -> None:
    detector = Detector(vgg, None, noise_images(vgg, 1)[0])
    assert not any(isinstance(module, OutputBias) for module in detector.modules())


def test_attention_with_gains_of_one_is_the_bias(
    vgg: Backbone, images: tuple[Tensor, Tensor]
) -> None:
    control = adapt_submission("bias_only", vgg, *images).detector
    attention = adapt_submission("attention", vgg, *images).detector
    (learned,) = (m for m in control.modules() if isinstance(m, OutputBias))
    (threshold,) = (m for m in attention.modules() if isinstance(m, OutputBias))
    (gains,) = (m for m in attention.modules() if isinstance(m, Gains))
    with torch.no_grad():
        gains.gains.fill_(1)
        threshold.bias.copy_(learned.bias)
        shown = torch.cat(images)
        torch.testing.assert_close(attention(shown), control(shown), rtol=1e-4, atol=1e-4)
        expected = log_odds(vgg(shown), TARGET) + learned.bias
        torch.testing.assert_close(control(shown), expected, rtol=1e-4, atol=1e-4)


def test_as_published_the_target_is_present_where_its_output_is_the_largest(
    vgg: Backbone, images: tuple[Tensor, Tensor]
) -> None:
    adapted = adapt_submission("attention_as_published", vgg, *images)
    assert not any(isinstance(module, OutputBias) for module in adapted.detector.modules())
    with torch.no_grad():
        shown = torch.cat(images)
        scores, logits = adapted.detector(shown), adapted.detector.logits(shown)
    assert torch.equal(scores > 0, logits.argmax(dim=1) == TARGET)
    (gains,) = (m for m in adapted.detector.modules() if isinstance(m, Gains))
    assert adapted.size.parameters_added == len(gains.gains)
    assert (gains.gains >= 0).all() and not torch.equal(gains.gains, torch.ones_like(gains.gains))


@pytest.mark.parametrize("intensity", [0.0, 0.3, 1.0])
def test_as_published_the_intensity_is_the_weight_of_the_target(
    vgg: Backbone, images: tuple[Tensor, Tensor], intensity: float
) -> None:
    """The first step of Adam, with all images in one batch, follows the gradient of the formula."""
    program = load_program("attention_as_published")
    pos, neg = images
    labels = program.likeliest_labels(vgg, neg, TARGET)
    assert TARGET not in labels
    adapted = adapt_submission(
        "attention_as_published",
        vgg,
        *images,
        after="block1",
        intensity=intensity,
        epochs=1,
        learning_rate=0.1,
    )
    ones = torch.ones(vgg.upto("block1")(pos[:1]).shape[1], requires_grad=True)

    def logits(images: Tensor) -> Tensor:
        return vgg.after("block1")(vgg.upto("block1")(images) * ones[None, :, None, None])

    loss = intensity * cross_entropy(logits(pos), torch.full((len(pos),), TARGET))
    loss = loss + (1 - intensity) * cross_entropy(logits(neg), labels)
    (gradient,) = torch.autograd.grad(loss, ones)
    (gains,) = (m.gains for m in adapted.detector.modules() if isinstance(m, Gains))
    # The first step of Adam has the size of the rate and the sign of the gradient.
    moved = gradient.abs() > 1e-4
    assert torch.equal((gains - 1).sign()[moved], -gradient.sign()[moved])
