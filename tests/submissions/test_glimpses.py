"""Glimpses and the methods that use them: what they see, and closed forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, layer_norm

import attnbench
from attnbench import log_odds
from attnbench.adaptation.glimpses import (
    ContextEncoder,
    GlimpseDetector,
    GlimpseEncoder,
    HebbRosenblatt,
    MemoryState,
    sample,
    spiral,
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

NAMES = ["ram", "edram", "stawm"]
GLIMPSES = 4


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


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_first_locations_are_distinct_and_start_at_the_centre(count: int) -> None:
    locations = spiral(count)
    assert locations.shape == (count, 2) and not locations[0].any()
    assert torch.cdist(locations, locations).add(torch.eye(count)).min() > 0.1
    assert locations.norm(dim=1).max() <= 0.8 + 1e-6


def test_a_glimpse_is_what_the_backbone_makes_of_the_crop_alone(vgg: Backbone) -> None:
    images = noise_images(vgg, 2)[0]
    encoder = GlimpseEncoder(vgg, 0.5, images[:1])
    affine = upright_windows(location(3, 8, (24, 24)).expand(2, 2), encoder.scale)
    features, evidence = encoder(images, affine)
    crop = images[:, :, 3:27, 8:32]
    maps = vgg.upto("block4")(crop)
    expected = layer_norm(maps.mean(dim=(2, 3)), (128,))
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(evidence, log_odds(vgg(crop), 3), atol=1e-4, rtol=1e-4)


def test_a_window_too_small_for_the_backbone_is_enlarged() -> None:
    """The digits' network halves 14 pixels to nothing, and a ViT takes one size only."""
    for backbone in (load("shipped/digits-cnn"), small_vit()):
        own_size = backbone.preprocessing.size
        backbone.target = 3
        images = noise_images(backbone, 2)[0]
        encoder = GlimpseEncoder(backbone, 0.5, images[:1])
        corner = upright_windows(torch.full((2, 2), -1.0), encoder.scale)
        crop = images[:, :, : own_size // 2, : own_size // 2]
        enlarged = interpolate(crop, (own_size, own_size), mode="bilinear")
        evidence = encoder(images, corner)[1]
        torch.testing.assert_close(evidence, log_odds(backbone(enlarged), 3), atol=1e-4, rtol=1e-4)
        # A window of the whole image has no more pixels, so it is the image at half resolution.
        everything = torch.eye(2, 3).expand(2, 2, 3)
        invisible = torch.randn_like(images)
        means = adaptive_avg_pool2d(invisible, (own_size // 2, own_size // 2))
        invisible = invisible - interpolate(means, (own_size, own_size))
        torch.testing.assert_close(
            encoder(images + invisible, everything)[1],
            encoder(images, everything)[1],
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_detector_averages_its_windows(name: str, vgg: Backbone) -> None:
    pos, neg = noise_images(vgg, 4)
    adapted = adapt_submission(name, vgg, pos, neg, epochs=0)
    # On corners, pixels of windows are pixels of the image. (STAWM's are not upright slices.)
    aligned = name == "stawm"
    encoder = adapted.detector.encoder
    evidence = [
        log_odds(vgg(sample(pos, window, encoder.size, align_corners=aligned)), 3)
        for window in upright_windows(spiral(GLIMPSES), encoder.scale)[:, None].expand(-1, 4, 2, 3)
    ]
    expected = torch.stack(evidence).mean(dim=0)
    torch.testing.assert_close(adapted.detector(pos), expected, atol=1e-4, rtol=1e-4)
    counts = {"ram": 2346, "edram": 36314, "stawm": 38429}
    assert adapted.size.parameters_added == 32 * 128 + counts[name]
    assert adapted.size.parameters_changed == 0


def seen_pixels(detector: GlimpseDetector, images: Tensor, budget: int) -> Tensor:
    """Return which pixels are in the first `budget` windows, bool `[n, 1, h, w]`."""
    aligned, windows = [], []

    def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, bool]) -> None:
        windows.append(args[1].detach())
        aligned.append(kwargs.get("align_corners", False))

    hook = detector.encoder.register_forward_pre_hook(keep, with_kwargs=True)
    detector.predict(images, budget)
    hook.remove()
    assert len(windows) == budget
    canvas = torch.zeros_like(images[:, :1], requires_grad=True)
    for window, corners in zip(windows, aligned, strict=True):
        glimpse = sample(canvas, window, detector.encoder.size, align_corners=corners)
        torch.autograd.backward(glimpse.sum())
    assert canvas.grad is not None
    return canvas.grad != 0


def hidden_change(images: Tensor, seen: Tensor, context: ContextEncoder | None) -> Tensor:
    """Return large noise outside of what is seen, invisible in the context's small copy too."""
    unseen = (~seen).float()
    noise = 3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * unseen
    if context is not None:
        # Noise with a mean of zero in each block that becomes a pixel of the copy.
        share = adaptive_avg_pool2d(unseen, context.size).clamp_min(1e-6)
        mean = adaptive_avg_pool2d(noise, context.size) / share
        noise = (noise - interpolate(mean, images.shape[2:])) * unseen
        assert context.shrink(noise).abs().max() < 1e-5
    return noise


@pytest.mark.parametrize("budget", [1, GLIMPSES])
@pytest.mark.parametrize("name", NAMES)
def test_a_score_depends_on_the_glimpses_alone(name: str, budget: int, vgg: Backbone) -> None:
    pos, neg = noise_images(vgg, 8)
    detector = adapt_submission(name, vgg, pos, neg, epochs=2, window_scale=0.3).detector
    context = getattr(detector, "context", None)
    assert (context is None) == (name == "ram")
    with torch.no_grad():
        before = detector.predict(pos, budget)
    seen = seen_pixels(detector, pos, budget)
    change = hidden_change(pos, seen, context)
    assert 0.3 < (change != 0).float().mean() < 1
    with torch.no_grad():
        torch.testing.assert_close(
            detector.predict(pos + change, budget), before, atol=1e-3, rtol=1e-3
        )
        # The same noise in the windows is not ignored.
        in_sight = hidden_change(pos, ~seen, None)
        assert (detector.predict(pos + in_sight, budget) - before).abs().min() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_every_budget_has_a_score_and_the_last_is_the_detectors(name: str, vgg: Backbone) -> None:
    pos, neg = noise_images(vgg, 4)
    detector = adapt_submission(name, vgg, pos, neg, epochs=1).delivered
    with torch.no_grad():
        scores = detector.scores(pos, GLIMPSES)
        for budget in range(1, GLIMPSES + 1):
            torch.testing.assert_close(detector.predict(pos, budget), scores[:, budget - 1])
        torch.testing.assert_close(detector(pos), scores[:, -1])
    for budget in (0, GLIMPSES + 1):
        with pytest.raises(ValueError, match="from 1 to 4"):
            detector.predict(pos, budget)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "tasks", [("imagenet-standard", "alpha-blend"), ("noisy-mnist",)], ids=lambda tasks: tasks[0]
)
def test_scores_are_not_those_of_the_whole_image_in_disguise(
    name: str, tasks: tuple[str, ...]
) -> None:
    """Spearman's correlation with `bias_only`, whose order is that of the backbone's log-odds."""
    targets = (None, "9") if tasks == ("noisy-mnist",) else (None, "cool striped star")
    correlations: dict[str, list[float]] = {task: [] for task in tasks}
    for target in targets:
        # The tasks share their adaptation images.
        episodes = [attnbench.episode(task, target) for task in tasks]
        backbone, pos, neg = episodes[0].backbone, episodes[0].pos, episodes[0].neg
        # One epoch is the harder test: training takes scores away from what the backbone says.
        detector = adapt_submission(name, backbone, pos, neg, epochs=1).detector
        for task, episode in zip(tasks, episodes, strict=True):
            with torch.no_grad():
                images = episode.images[::2]
                scores = detector(images)
                control = log_odds(backbone(images), backbone.target)
            correlations[task].append(spearmanr(scores, control).statistic)
    assert all(np.mean(values) < 0.98 for values in correlations.values()), correlations


def test_reinforce_estimates_the_gradient_of_the_expected_score() -> None:
    torch.manual_seed(0)
    mean, spread = torch.tensor(0.5, requires_grad=True), 0.3
    drawn = (mean + spread * torch.randn(1, 200_000, 1)).detach()
    log_probability = -((drawn - mean) ** 2) / (2 * spread**2)
    expected = load_program("ram").expected_score(drawn**2 + 3, log_probability)
    # E[l^2 + 3] = mean^2 + spread^2 + 3
    assert expected.item() == pytest.approx(0.25 + 0.09 + 3, abs=0.01)
    (gradient,) = torch.autograd.grad(expected.sum(), mean)
    assert gradient.item() == pytest.approx(2 * 0.5, abs=0.02)


@pytest.mark.parametrize("name", ["edram", "stawm"])
def test_gradients_flow_through_a_glimpse_to_its_location(name: str, vgg: Backbone) -> None:
    torch.manual_seed(0)
    images = noise_images(vgg, 2)[0]
    encoder = GlimpseEncoder(copy.deepcopy(vgg), 0.5, images[:1])
    memory_size = (8,) if name == "stawm" else ()
    glimpser = getattr(load_program(name), name.capitalize())
    network = glimpser(encoder, ContextEncoder(images[:1], 8), 2, 8, *memory_size)
    # The weights of the read-out are zero at first, which would hide a part of the gradients.
    nn.init.normal_(network.readout.weight)
    network.double().requires_grad_(False)

    def score(path: Tensor) -> Tensor:
        return torch.func.functional_call(network, {"path": path}, (images.double(),))

    # Bilinear interpolation has no derivative where the window falls on pixels.
    path = (network.path + 0.01 * torch.randn(2, 6)).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(score, path, eps=1e-7, atol=1e-3)


def test_a_backbone_without_a_label_for_the_target_gives_no_evidence() -> None:
    backbone = random_backbone("shipped/figures-simclr")
    pos, neg = noise_images(backbone, 8)
    for name in NAMES:
        untrained = adapt_submission(name, backbone, pos, neg, epochs=0)
        assert untrained.detector.trust is None and not untrained.detector(pos).any()
        assert adapt_submission(name, backbone, pos, neg, epochs=1).detector(pos).std() > 0


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
