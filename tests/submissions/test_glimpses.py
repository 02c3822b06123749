"""Glimpses and the methods that use them: against slices, plain loops and closed forms."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from attnbench.adaptation import GlobalAveragePool, log_odds
from attnbench.adaptation.glimpses import (
    GlimpseEncoder,
    HebbRosenblatt,
    MemoryState,
    sample,
    upright_windows,
)
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from tests.submissions.adapted import (
    adapt_submission,
    load_program,
    noise_images,
    random_backbone,
    small_vit,
)


@pytest.fixture(scope="module")
def vgg() -> Backbone:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    return backbone


def location(top: int, left: int, room: tuple[int, int]) -> Tensor:
    """Return the location `[1, 2]` of a window.

    Args:
        top, left: its first row and column.
        room: the number of rows and columns by which it can move.
    """
    return torch.tensor([[2 * left / room[1] - 1, 2 * top / room[0] - 1]])


@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 5), (4, 8)])
def test_a_window_is_a_slice_and_its_inverse_puts_it_back(top: int, left: int) -> None:
    maps = torch.randn(1, 3, 8, 12)
    affine = upright_windows(location(top, left, (4, 8)), (4 / 12, 4 / 8))
    window = sample(maps, affine, (4, 4))
    rows, columns = slice(top, top + 4), slice(left, left + 4)
    torch.testing.assert_close(window, maps[:, :, rows, columns])
    homogeneous = torch.cat([affine, torch.tensor([[[0.0, 0.0, 1.0]]])], dim=1)
    canvas = sample(window, torch.linalg.inv(homogeneous)[:, :2], (8, 12))
    expected = torch.zeros_like(maps)
    expected[:, :, rows, columns] = maps[:, :, rows, columns]
    torch.testing.assert_close(canvas, expected, atol=1e-5, rtol=1e-4)


def test_aligned_corners_are_pixel_centres_as_in_2018() -> None:
    maps = torch.arange(9.0).reshape(1, 1, 3, 3)
    corners = sample(maps, torch.eye(2, 3)[None], (2, 2), align_corners=True)
    assert corners.flatten().tolist() == [0, 2, 6, 8]


def test_a_crop_of_ram_is_a_slice_encoded_by_the_later_stages(vgg: Backbone) -> None:
    images = noise_images(vgg, 2)[0]
    encoder = GlimpseEncoder(vgg, "block2", 0.5, images[:1])
    ram = load_program("ram").Ram(encoder, vgg.target, 4, 8, 0.2)
    maps = encoder.lower_stages(images)
    features = ram.crop(maps, location(1, 4, (6, 6)).expand(2, 2))
    encoded = nn.Sequential(vgg.stage("block3"), vgg.stage("block4"))(maps[:, :, 1:7, 4:10])
    torch.testing.assert_close(features, encoded.mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)


def test_a_glimpse_of_everything_is_the_whole() -> None:
    for backbone in (random_backbone("shipped/figures-simclr"), small_vit()):
        images = noise_images(backbone, 2)[0]
        encoder = GlimpseEncoder(backbone, "", 1.0, images[:1])
        maps = encoder.lower_stages(images)
        features = encoder.glimpse(maps, torch.eye(2, 3).expand(2, 2, 3))
        expected = GlobalAveragePool()(encoder.upper_stages(maps))
        torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(encoder.whole(maps), backbone(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ram", "edram", "stawm"])
def test_an_untrained_detector_equals_the_backbone(name: str, vgg: Backbone) -> None:
    pos, neg = noise_images(vgg, 4)
    adapted = adapt_submission(name, vgg, pos, neg, epochs=0)
    torch.testing.assert_close(adapted.detector(pos), log_odds(vgg(pos), 3), atol=1e-4, rtol=1e-4)
    d, o, k = 128, 40, 32
    counts = {
        "ram": k * d + 2339,
        "edram": k * (d + o) + 17415,
        "stawm": k * d + 2 * k * o + 18506,
    }
    assert adapted.size.parameters_added == counts[name]
    assert adapted.size.parameters_changed == 0


def test_reinforce_estimates_the_gradient_of_the_expected_score() -> None:
    torch.manual_seed(0)
    mean, spread = torch.tensor(0.5, requires_grad=True), 0.3
    drawn = (mean + spread * torch.randn(1, 200_000)).detach()
    log_probability = -((drawn - mean) ** 2) / (2 * spread**2)
    expected = load_program("ram").expected_score(drawn**2 + 3, log_probability)
    # E[l^2 + 3] = mean^2 + spread^2 + 3
    assert expected.item() == pytest.approx(0.25 + 0.09 + 3, abs=0.01)
    (gradient,) = torch.autograd.grad(expected.sum(), mean)
    assert gradient.item() == pytest.approx(2 * 0.5, abs=0.02)


@pytest.mark.parametrize("name", ["edram", "stawm"])
def test_gradients_flow_through_a_glimpse_to_its_location(name: str, vgg: Backbone) -> None:
    torch.manual_seed(0)
    backbone = copy.deepcopy(vgg)
    images = noise_images(backbone, 2)[0]
    encoder = GlimpseEncoder(backbone, "block3", 0.5, images[:1])
    memory_size = (8,) if name == "stawm" else ()
    glimpser = getattr(load_program(name), name.capitalize())
    network = glimpser(encoder, backbone.target, 2, 8, *memory_size)
    # The read-out is zero at first, which would hide all gradients.
    nn.init.normal_(network.readout.linear.weight)
    network.double().requires_grad_(False)
    maps = encoder.lower_stages(images.double())

    def logit(bias: Tensor) -> Tensor:
        return torch.func.functional_call(network, {"to_window.bias": bias}, (maps,))[:, 3]

    # Bilinear interpolation has no derivative where the window falls on pixels.
    bias = (network.to_window.bias + 0.013).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(logit, bias, eps=1e-7, atol=1e-4)


def test_the_memory_equals_a_plain_loop() -> None:
    torch.manual_seed(0)
    memory = HebbRosenblatt().requires_grad_(False)
    inputs, query = torch.rand(5, 7) * 3, torch.rand(7)
    eta, delta, theta = memory.eta, memory.delta, memory.theta
    w = w_of_authors = torch.zeros(7, 7)
    state: MemoryState = []
    for x in inputs:
        y = eta * (theta * x + w @ x).clamp(0, 6)
        w = w + 1.0 * eta * torch.outer(y, x) - 1.0 * delta * w
        # The authors' code has eta = 0.4, in y alone.
        y_of_authors = 0.4 * (0.5 * x + w_of_authors @ x).clamp(0, 6)
        w_of_authors = w_of_authors + torch.outer(y_of_authors, x) - 0.2 * w_of_authors
        state = memory.write(state, x[None])
    answer = memory.read(state, query[None])[0]
    torch.testing.assert_close(answer, (w @ query).clamp(0, 6))
    torch.testing.assert_close(answer, (w_of_authors @ query).clamp(0, 6))
    torch.testing.assert_close(memory.multiply(state, query[None])[0], w @ query)
