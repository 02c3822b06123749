"""Gains, scales and shifts, tuned parts and side networks: against closed forms and plain loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from attnbench import Backbone, NotApplicable, log_odds
from attnbench.backbones import load
from attnbench.backbones.backbone import tensors_of
from tests.conftest import small_backbone
from tests.submissions.adapted import adapted, images, module_of


@pytest.fixture
def network() -> Backbone:
    """A convolution without and one with batch norm, of which the statistics are not 0 and 1."""
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
def test_what_is_put_in_changes_nothing_at_first(name: str, limit: str, vgg: Backbone) -> None:
    pos, neg = images(vgg, 3)
    found = adapted(name, vgg, pos, neg, **{limit: 0}).detector(pos)
    with torch.no_grad():
        torch.testing.assert_close(found, log_odds(vgg(pos), 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["feature_gain", "film"])
def test_scaled_filters_are_the_network_with_scaled_weights(name: str, vgg: Backbone) -> None:
    pos, neg = images(vgg, 3)
    detector = adapted(name, vgg, pos, neg, steps=3, enough=0.0).detector
    folded = copy.deepcopy(vgg)
    kind = {"feature_gain": "Gains", "film": "Film"}[name]
    put = [each for each in detector.modules() if type(each).__name__ == kind]
    convolutions = [each for each in folded.modules() if isinstance(each, nn.Conv2d)]
    assert len(put) == len(convolutions) == 4
    for layer, convolution in zip(put, convolutions, strict=True):
        scale = (layer.gains if name == "feature_gain" else layer.scale).detach().flatten()
        shift = torch.zeros(()) if name == "feature_gain" else layer.shift.detach().flatten()
        assert (scale != 1).any()
        convolution.weight *= scale[:, None, None, None]
        convolution.bias.copy_(convolution.bias * scale + shift)
    with torch.no_grad():
        expected = log_odds(folded(pos), 3)
        torch.testing.assert_close(detector(pos), expected, rtol=1e-3, atol=1e-3)


def test_gains_never_fall_below_zero(vgg: Backbone) -> None:
    detector = adapted("feature_gain", vgg, *images(vgg, 9), steps=6, enough=0.0).detector
    gains = torch.cat(
        [p.detach().flatten() for n, p in detector.named_parameters() if "gains" in n]
    )
    assert gains.min() == 0


@pytest.mark.parametrize("name", ["bitfit", "norm_tuning", "full_finetune", "bn_stats"])
def test_only_what_the_method_names_is_changed(name: str, network: Backbone) -> None:
    trained = {} if name == "bn_stats" else {"learning_rate": 0.01, "epochs": 3}
    detector = adapted(name, network, *images(network, 4), **trained).delivered
    after = tensors_of(detector.frozen if name == "bn_stats" else detector.trained)
    before = tensors_of(network)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    norm = {f"block2.1.{each}" for each in ("weight", "bias")}
    expected = {
        "bitfit": {"block1.0.bias", "block2.0.bias", "block2.1.bias", "head.2.bias"},
        "norm_tuning": norm,
        "full_finetune": {key for key, _ in network.named_parameters()},
        "bn_stats": {"block2.1.running_mean", "block2.1.running_var"},
    }
    assert changed == expected[name]


@pytest.mark.parametrize("name", ["norm_tuning", "bn_stats"])
def test_a_network_without_norms_is_refused(name: str, vgg: Backbone) -> None:
    with pytest.raises(NotApplicable):
        adapted(name, vgg, *images(vgg, 2))


def test_statistics_are_those_of_torch_in_training(network: Backbone) -> None:
    pos, neg = images(network, 6)
    found = adapted("bn_stats", network, pos, neg, prior=0.0).detector.frozen.stage("block2")[1]
    norm = copy.deepcopy(network.stage("block2")[1])
    norm.momentum = 1.0
    with torch.no_grad():
        maps = network.stage("block2")[0](network.stage("block1")(torch.cat([pos, neg])))
        norm.train()(maps)
    count = maps[:, 0].numel()
    torch.testing.assert_close(found.running_mean, norm.running_mean)
    torch.testing.assert_close(found.running_var, norm.running_var * (count - 1) / count)


def test_statistics_know_no_labels(network: Backbone) -> None:
    pos, neg = images(network, 6)
    one, other = (
        adapted("bn_stats", network, *sides).detector for sides in [(pos, neg), (neg, pos)]
    )
    for key, tensor in tensors_of(one).items():
        torch.testing.assert_close(tensor, tensors_of(other)[key])


def test_excitation_is_twice_that_of_torchvision() -> None:
    block, theirs = module_of("squeeze_excite").SqueezeExcite(32, 16), SqueezeExcitation(32, 2)
    theirs.scale_activation = nn.Sigmoid()
    nn.init.normal_(block.excite.weight)
    with torch.no_grad():
        for mine, convolution in ((block.squeeze, theirs.fc1), (block.excite, theirs.fc2)):
            convolution.weight.copy_(mine.weight[:, :, None, None])
            convolution.bias.zero_()
        maps = torch.randn(4, 32, 5, 5)
        torch.testing.assert_close(block(maps), 2 * theirs(maps))
        tokens = maps.flatten(2).movedim(1, 2)
        torch.testing.assert_close(block(tokens), block(maps).flatten(2).movedim(1, 2))


def test_an_adapter_is_two_convolutions_of_one_pixel() -> None:
    module = module_of("adapter")
    adapter = module.Adapter(torch.Size((16, 5, 5)), 4)
    nn.init.normal_(adapter.up.weight)
    maps = torch.randn(3, 16, 5, 5)
    inner = nn.functional.conv2d(maps, adapter.down.weight[:, :, None, None], adapter.down.bias)
    change = nn.functional.conv2d(
        inner.relu(), adapter.up.weight[:, :, None, None], adapter.up.bias
    )
    torch.testing.assert_close(adapter(maps), maps + change)
    of_tokens = module.Adapter(torch.Size((25, 16)), 4)
    of_tokens.load_state_dict(adapter.state_dict())
    tokens = maps.flatten(2).movedim(1, 2)
    torch.testing.assert_close(of_tokens(tokens), adapter(maps).flatten(2).movedim(1, 2))


@pytest.mark.parametrize("name", ["shipped/figures-vgg", "torchvision/squeezenet1_1"])
def test_the_side_network_is_blended_in_before_the_head(name: str) -> None:
    backbone = load(name, untrained=True)
    backbone.target = 3
    pos, neg = images(backbone, 2)
    detector = adapted("side_tuning", backbone, pos, neg, epochs=2, enough=0.0).detector
    network = detector.trained
    with torch.no_grad():
        base, share = backbone.upto(backbone.stages[-2])(pos), torch.sigmoid(network.share)
        side = network.side(pos)
        assert side.abs().max() > 0
        side = side if base.dim() == 2 else side[:, :, None, None].expand_as(base)
        expected = backbone.stage("head")(share * base + (1 - share) * side)
        torch.testing.assert_close(detector.logits(pos), expected, rtol=1e-4, atol=1e-4)


def test_meta_mapping_looks_at_no_image_of_the_target(vgg: Backbone) -> None:
    pos, neg = images(vgg, 8)
    one, other = (adapted("meta_mapping", vgg, side, neg).detector for side in (pos, -3 * pos))
    assert torch.equal(_gains(one), _gains(other))


def test_predicted_gains_lie_on_a_line_over_the_prototype(vgg: Backbone) -> None:
    gains = _gains(adapted("meta_mapping", vgg, *images(vgg, 8)).detector)
    rows = vgg.stage("head").weight.numpy().astype(np.float64)
    prototype = (rows[3] - rows.mean(axis=0)) / rows.std(ddof=1)
    slope, level = np.polyfit(prototype, gains.numpy(), 1)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(gains, np.clip(level + slope * prototype, 0, None), atol=1e-4)


def test_the_line_is_that_of_least_squares() -> None:
    x, y = torch.randn(2, 7, 50, dtype=torch.float64)
    slope, level = module_of("meta_mapping").line_through(x, y)
    expected = np.polyfit(x.flatten(), y.flatten(), 1)
    np.testing.assert_allclose([slope, level], expected)


def test_reference_classes_are_those_named_and_never_the_target() -> None:
    logits = torch.eye(5)[[2, 2, 2, 4, 4, 0, 1]] + 0.5 * torch.eye(5)[[0, 0, 0, 0, 0, 1, 4]]
    assert module_of("meta_mapping").most_named(logits, 2) == [0, 4, 1]


def _gains(detector: nn.Module) -> Tensor:
    (gains,) = (p.detach() for name, p in detector.named_parameters() if name.endswith("gains"))
    return gains
