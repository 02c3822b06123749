"""Gains, scales and shifts, tuned parts and side networks: against closed forms and plain loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from attnbench import Backbone, NotApplicable, log_odds
from attnbench.backbones import load
from attnbench.backbones.backbone import tensors_of
from attnbench.stimuli.figures import CLASSES, draw
from tests.conftest import small_backbone
from tests.submissions.adapted import adapt_submission, load_program, noise_images


@pytest.fixture
def network() -> Backbone:
    """Two convolutions, one of them with a batch norm whose statistics are not 0 and 1."""
    backbone = small_backbone()
    backbone.target = 1
    norm = backbone.stage("block2")[1]
    generator = torch.Generator().manual_seed(0)
    norm.running_mean.copy_(torch.randn(16, generator=generator))
    norm.running_var.copy_(torch.rand(16, generator=generator) + 0.5)
    return backbone


@pytest.fixture
def vgg() -> Backbone:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    return backbone


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("feature_gain", "steps"),
        ("film", "steps"),
        ("squeeze_excite", "epochs"),
        ("adapter", "epochs"),
    ],
)
def test_inserted_layers_change_nothing_before_training(
    name: str, limit: str, vgg: Backbone
) -> None:
    pos, neg = noise_images(vgg, 3)
    detector = adapt_submission(name, vgg, pos, neg, **{limit: 0}).detector
    with torch.no_grad():
        expected = log_odds(vgg(pos), 3) + detector.threshold.bias
        torch.testing.assert_close(detector(pos), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["feature_gain", "film"])
def test_scaled_filters_equal_a_network_with_scaled_weights(name: str, vgg: Backbone) -> None:
    pos, neg = noise_images(vgg, 3)
    detector = adapt_submission(name, vgg, pos, neg, steps=3, penalty=0.0).detector
    folded = copy.deepcopy(vgg)
    kind = {"feature_gain": "Gains", "film": "Film"}[name]
    layers = [module for module in detector.modules() if type(module).__name__ == kind]
    convolutions = [module for module in folded.modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == len(convolutions) == 4
    for layer, convolution in zip(layers, convolutions, strict=True):
        scale = (layer.gains if name == "feature_gain" else layer.scale).detach().flatten()
        shift = torch.zeros(()) if name == "feature_gain" else layer.shift.detach().flatten()
        assert (scale != 1).any()
        convolution.weight *= scale[:, None, None, None]
        convolution.bias.copy_(convolution.bias * scale + shift)
    with torch.no_grad():
        expected = log_odds(folded(pos), 3) + detector.threshold.bias
        torch.testing.assert_close(detector(pos), expected, rtol=1e-3, atol=1e-3)


def test_gains_never_fall_below_zero(vgg: Backbone) -> None:
    neg, pos = noise_images(vgg, 9)
    detector = adapt_submission("feature_gain", vgg, pos, neg, steps=30, penalty=0.0).detector
    gains = torch.cat(
        [
            parameter.detach().flatten()
            for name, parameter in detector.named_parameters()
            if "gains" in name
        ]
    )
    assert gains.min() == 0


@pytest.mark.parametrize("name", ["bitfit", "norm_tuning", "full_finetune", "bn_stats"])
def test_a_method_changes_only_the_parameters_that_it_names(name: str, network: Backbone) -> None:
    overrides = {} if name == "bn_stats" else {"learning_rate": 0.01, "epochs": 3}
    detector = adapt_submission(name, network, *noise_images(network, 4), **overrides).delivered
    after = tensors_of(detector.frozen if name == "bn_stats" else detector.trainable)
    before = tensors_of(network)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    expected = {
        "bitfit": {"block1.0.bias", "block2.0.bias", "block2.1.bias", "head.2.bias"},
        "norm_tuning": {"block2.1.weight", "block2.1.bias"},
        "full_finetune": {key for key, _ in network.named_parameters()},
        "bn_stats": {"block2.1.running_mean", "block2.1.running_var"},
    }
    assert changed == expected[name]


@pytest.mark.parametrize("name", ["norm_tuning", "bn_stats"])
def test_methods_for_norms_are_not_applicable_without_norms(name: str, vgg: Backbone) -> None:
    with pytest.raises(NotApplicable):
        adapt_submission(name, vgg, *noise_images(vgg, 2))


def test_new_statistics_are_those_of_torch_in_training_mode(network: Backbone) -> None:
    pos, neg = noise_images(network, 6)
    detector = adapt_submission("bn_stats", network, pos, neg, prior=0.0).detector
    updated = detector.frozen.stage("block2")[1]
    norm = copy.deepcopy(network.stage("block2")[1])
    norm.momentum = 1.0
    with torch.no_grad():
        maps = network.stage("block2")[0](network.stage("block1")(torch.cat([pos, neg])))
        norm.train()(maps)
    count = maps[:, 0].numel()
    torch.testing.assert_close(updated.running_mean, norm.running_mean)
    # torch divides by n - 1.
    torch.testing.assert_close(updated.running_var, norm.running_var * (count - 1) / count)


def test_new_statistics_do_not_depend_on_labels(network: Backbone) -> None:
    pos, neg = noise_images(network, 6)
    detector = adapt_submission("bn_stats", network, pos, neg).detector
    swapped = adapt_submission("bn_stats", network, neg, pos).detector
    for key, tensor in tensors_of(detector).items():
        torch.testing.assert_close(tensor, tensors_of(swapped)[key])


def test_squeeze_and_excitation_is_twice_that_of_torchvision() -> None:
    block, expected = load_program("squeeze_excite").SqueezeExcite(32, 16), SqueezeExcitation(32, 2)
    expected.scale_activation = nn.Sigmoid()
    nn.init.normal_(block.excite.weight)
    with torch.no_grad():
        for linear, convolution in ((block.squeeze, expected.fc1), (block.excite, expected.fc2)):
            convolution.weight.copy_(linear.weight[:, :, None, None])
            convolution.bias.zero_()
        maps = torch.randn(4, 32, 5, 5)
        torch.testing.assert_close(block(maps), 2 * expected(maps))
        tokens = maps.flatten(2).movedim(1, 2)
        torch.testing.assert_close(block(tokens), block(maps).flatten(2).movedim(1, 2))


def test_an_adapter_is_two_convolutions_of_one_pixel() -> None:
    program = load_program("adapter")
    adapter = program.Adapter(torch.Size((16, 5, 5)), 4)
    nn.init.normal_(adapter.up.weight)
    maps = torch.randn(3, 16, 5, 5)
    inner = nn.functional.conv2d(maps, adapter.down.weight[:, :, None, None], adapter.down.bias)
    change = nn.functional.conv2d(
        inner.relu(), adapter.up.weight[:, :, None, None], adapter.up.bias
    )
    torch.testing.assert_close(adapter(maps), maps + change)
    for_tokens = program.Adapter(torch.Size((25, 16)), 4)
    for_tokens.load_state_dict(adapter.state_dict())
    tokens = maps.flatten(2).movedim(1, 2)
    torch.testing.assert_close(for_tokens(tokens), adapter(maps).flatten(2).movedim(1, 2))


@pytest.mark.parametrize("name", ["shipped/figures-vgg", "torchvision/squeezenet1_1"])
def test_the_side_network_is_blended_in_front_of_the_head(name: str) -> None:
    backbone = load(name, untrained=True)
    backbone.target = 3
    pos, neg = noise_images(backbone, 2)
    detector = adapt_submission("side_tuning", backbone, pos, neg, epochs=2, stop_loss=0.0).detector
    network = detector.trainable
    with torch.no_grad():
        base, a = backbone.upto(backbone.stages[-2])(pos), torch.sigmoid(network.blend)
        side = network.side(pos)
        assert side.abs().max() > 0
        side = side if base.dim() == 2 else side[:, :, None, None].expand_as(base)
        expected = detector.threshold(backbone.stage("head")(a * base + (1 - a) * side))
        torch.testing.assert_close(detector.logits(pos), expected, rtol=1e-4, atol=1e-4)


def test_meta_mapping_uses_no_image_of_the_target(vgg: Backbone) -> None:
    pos, neg = noise_images(vgg, 8)
    detector = adapt_submission("meta_mapping", vgg, pos, neg).detector
    with_other_positives = adapt_submission("meta_mapping", vgg, -3 * pos, neg).detector
    assert torch.equal(_gains(detector), _gains(with_other_positives))


def test_meta_mapping_does_more_than_to_move_the_criterion(vgg: Backbone) -> None:
    """The labels are those of pictures that no task uses as a target."""
    pictures = torch.from_numpy(
        np.concatenate([draw("adapt", label, np.arange(2)) for label in range(24)])
    )
    neg = (pictures / 255 - 0.5) / 0.5
    vgg.target = CLASSES.index("cool dotted star")
    detector = adapt_submission("meta_mapping", vgg, neg[:1], neg[::2]).detector
    gains = _gains(detector)
    assert gains.min() >= 0 and gains.std() > 0.02
    with torch.no_grad():
        rho = spearmanr(detector(neg), log_odds(vgg(neg), vgg.target)).statistic
    assert rho < 0.98


def test_the_map_recovers_a_planted_linear_map() -> None:
    """From more rows than columns, and from fewer if the new row is in their span."""
    predict = load_program("meta_mapping").predict_by_ridge
    planted = torch.randn(7, 5, dtype=torch.float64)
    for count in (30, 4):
        x = torch.randn(count, 7, dtype=torch.float64)
        new = torch.rand(count, dtype=torch.float64).softmax(0) @ x
        predicted = predict(x, 2 + x @ planted, new, 1e-9)
        torch.testing.assert_close(predicted, 2 + new @ planted, rtol=1e-5, atol=1e-6)


def test_the_map_equals_scikit_learns_ridge_and_shrinks_towards_the_mean() -> None:
    predict = load_program("meta_mapping").predict_by_ridge
    x, y, new = (torch.randn(shape, dtype=torch.float64) for shape in ((6, 9), (6, 3), (9,)))
    alpha = 0.7 * x.var(dim=0, correction=0).sum().item()
    expected = Ridge(alpha=alpha).fit(x, y).predict(new[None])[0]
    np.testing.assert_allclose(predict(x, y, new, 0.7), expected)
    torch.testing.assert_close(predict(x, y, new, 1e12), y.mean(dim=0))
    torch.testing.assert_close(predict(x[:1], y[:1], new, 0.7), y[0])


@pytest.mark.parametrize("count", [2, 3, 4, 9, 40])
def test_merged_images_show_a_reference_class_in_some_and_not_in_others(count: int) -> None:
    program = load_program("meta_mapping")
    images = torch.randn(count, 3, 2, 2)
    merged, first, second = program.merge(images, 5)
    assert len(merged) == 5 * count
    for image, i, j in zip(merged, first, second, strict=True):
        assert torch.equal(image, (images[i] + images[j]) / 2)
    is_high = program.highest(torch.randn(count), 4)
    assert is_high.sum() == max(1, min(4, count // 4))
    present = is_high[first] | is_high[second]
    assert present.any() and not present.all()


def test_one_negative_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="there is 1 negative"):
        load_program("meta_mapping").merge(torch.zeros(1, 3, 2, 2), 5)


def test_reference_classes_are_the_predicted_ones_without_the_target() -> None:
    logits = torch.eye(5)[[2, 2, 2, 4, 4, 0, 1]] + 0.5 * torch.eye(5)[[0, 0, 0, 0, 0, 1, 4]]
    assert load_program("meta_mapping").most_frequent_classes(logits, 2) == [0, 4, 1]


def _gains(detector: nn.Module) -> Tensor:
    (gains,) = (
        parameter.detach()
        for name, parameter in detector.named_parameters()
        if name.endswith("gains")
    )
    return gains
