"""Glimpses, their memory and STAWM's drawing: against slices, plain loops and closed forms."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnbench.adaptation import Pooled, log_odds
from attnbench.adaptation.glimpses import Eye, HebbRosenblatt, Written, sample, upright
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from pretraining import stawm as drawing
from pretraining.recipes import Pictures, Recipe
from attnbench.errors import AttnbenchError
from tests.submissions.adapted import adapted, images, module_of, random_backbone, small_vit

GLIMPSING = ("ram", "edram", "stawm")


@pytest.fixture(scope="module")
def vgg() -> Backbone:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    return backbone


def corner(top: int, left: int, room: tuple[int, int]) -> Tensor:
    """The place of a window whose corner is there, with so many rows and columns to move in."""
    return torch.tensor([[2 * left / room[1] - 1, 2 * top / room[0] - 1]])


@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 5), (4, 8)])
def test_a_crop_is_a_slice_and_its_inverse_puts_it_back(top: int, left: int) -> None:
    maps = torch.randn(1, 3, 8, 12)
    window = upright(corner(top, left, (4, 8)), (4 / 12, 4 / 8))
    crop = sample(maps, window, (4, 4))
    rows, columns = slice(top, top + 4), slice(left, left + 4)
    torch.testing.assert_close(crop, maps[:, :, rows, columns])
    square = torch.cat([window, torch.tensor([[[0.0, 0.0, 1.0]]])], dim=1)
    canvas = sample(crop, torch.linalg.inv(square)[:, :2], (8, 12))
    expected = torch.zeros_like(maps)
    expected[:, :, rows, columns] = maps[:, :, rows, columns]
    torch.testing.assert_close(canvas, expected, atol=1e-5, rtol=1e-4)


def test_corners_on_pixel_centres_are_those_of_2018() -> None:
    maps = torch.arange(9.0).reshape(1, 1, 3, 3)
    found = sample(maps, torch.eye(2, 3)[None], (2, 2), align_corners=True)
    assert found.flatten().tolist() == [0, 2, 6, 8]


def test_a_crop_of_ram_is_what_the_later_stages_make_of_a_slice(vgg: Backbone) -> None:
    pictures = images(vgg, 2)[0]
    eye = Eye(vgg, "block2", 0.5, pictures[:1])
    ram = module_of("ram").Ram(eye, vgg.target, 4, 8, 0.2)
    seen = eye.before(pictures)
    found = ram.crop(seen, corner(1, 4, (6, 6)).expand(2, 2))
    sliced = nn.Sequential(vgg.stage("block3"), vgg.stage("block4"))(seen[:, :, 1:7, 4:10])
    torch.testing.assert_close(found, sliced.mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)


def test_a_glimpse_of_everything_is_the_whole() -> None:
    for backbone in (random_backbone("shipped/figures-simclr"), small_vit()):
        pictures = images(backbone, 2)[0]
        eye = Eye(backbone, "", 1.0, pictures[:1])
        seen = eye.before(pictures)
        found = eye.glimpse(seen, torch.eye(2, 3).expand(2, 2, 3))
        torch.testing.assert_close(found, Pooled()(eye.behind(seen)), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(eye.whole(seen), backbone(pictures), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", GLIMPSING)
def test_a_detector_starts_as_the_backbone_and_changes_nothing_of_it(
    name: str, vgg: Backbone
) -> None:
    pos, neg = images(vgg, 4)
    found = adapted(name, vgg, pos, neg, epochs=0)
    torch.testing.assert_close(found.detector(pos), log_odds(vgg(pos), 3), atol=1e-4, rtol=1e-4)
    d, o, k = 128, 40, 32
    counts = {
        "ram": k * d + 2339,
        "edram": k * (d + o) + 17415,
        "stawm": k * d + 2 * k * o + 18506,
    }
    assert (found.size.parameters_added, found.size.parameters_changed) == (counts[name], 0)


def test_reinforce_estimates_the_gradient_of_the_expected_score() -> None:
    torch.manual_seed(0)
    mean, spread = torch.tensor(0.5, requires_grad=True), 0.3
    drawn = (mean + spread * torch.randn(1, 200_000)).detach()
    log_probability = -((drawn - mean) ** 2) / (2 * spread**2)
    expected = module_of("ram").expected(drawn**2 + 3, log_probability)
    # E[l^2 + 3] = mean^2 + spread^2 + 3
    assert expected.item() == pytest.approx(0.25 + 0.09 + 3, abs=0.01)
    (gradient,) = torch.autograd.grad(expected.sum(), mean)
    assert gradient.item() == pytest.approx(2 * 0.5, abs=0.02)


@pytest.mark.parametrize("name", ["edram", "stawm"])
def test_where_to_look_is_learned_through_the_glimpse(name: str, vgg: Backbone) -> None:
    torch.manual_seed(0)
    backbone = copy.deepcopy(vgg)
    pictures = images(backbone, 2)[0]
    eye = Eye(backbone, "block3", 0.5, pictures[:1])
    module = module_of(name)
    further = (8,) if name == "stawm" else ()
    network = getattr(module, name.capitalize())(eye, backbone.target, 2, 8, *further)
    nn.init.normal_(network.evidence.weigh.weight)
    network.double().requires_grad_(False)
    seen = eye.before(pictures.double())

    def score(bias: Tensor) -> Tensor:
        return torch.func.functional_call(network, {"emit.bias": bias}, (seen,))[:, 3]

    bias = (network.emit.bias + 0.013).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(score, bias, eps=1e-7, atol=1e-4)


def test_the_memory_against_a_plain_loop() -> None:
    torch.manual_seed(0)
    memory = HebbRosenblatt().requires_grad_(False)
    inputs, query = torch.rand(5, 7) * 3, torch.rand(7)
    eta, delta, theta = memory.eta, memory.delta, memory.theta
    w = once = torch.zeros(7, 7)
    written: Written = []
    for x in inputs:
        y = eta * (theta * x + w @ x).clamp(0, 6)
        w = w + 1.0 * eta * torch.outer(y, x) - 1.0 * delta * w
        # as the authors' code has it: eta = 0.4, in y alone
        once = once + torch.outer(0.4 * (0.5 * x + once @ x).clamp(0, 6), x) - 0.2 * once
        written = memory.write(written, x[None])
    found = memory.read(written, query[None])[0]
    torch.testing.assert_close(found, (w @ query).clamp(0, 6))
    torch.testing.assert_close(found, (once @ query).clamp(0, 6))
    torch.testing.assert_close(memory.product(written, query[None])[0], w @ query)


def test_drawing_has_the_published_size_but_for_an_unused_layer() -> None:
    backbone = drawing.untrained_stawm("test/stawm")
    model = drawing.Drawing(backbone)
    assert sum(each.numel() for each in model.parameters()) == 2_570_738 - (256 * 256 + 256)
    drawn, mean, log_variance = model(torch.rand(2, 3, 32, 32))
    assert drawn.shape == (2, 3, 32, 32) and mean.shape == log_variance.shape == (2, 8 * 32)
    look = drawing.Look()
    probe = drawing.PublishedProbe(look.memory)
    assert sum(each.numel() for each in probe.parameters()) == 133_901
    # with the query that draws, the published probe reads what the backbone's `memory` gives
    probe.load_state_dict({**probe.state_dict(), "query.weight": look.query.weight,
                           "query.bias": look.query.bias})  # fmt: skip
    pictures = torch.rand(2, 3, 32, 32)
    seen = drawing.Glimpses(look.eval())(pictures)
    torch.testing.assert_close(probe(seen), probe.classes(look(pictures)))


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe("test/stawm", "made up", None, 2, 2, 1e-3, 0.0)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    monkeypatch.setattr(drawing, "_SAVE_EVERY", -1.0)  # after every step
    monkeypatch.setattr(drawing, "GLIMPSES", 2)
    file = tmp_path / "checkpoint"

    def train(checkpoint: Path | None) -> tuple[dict[str, str], dict[str, Tensor]]:
        torch.manual_seed(0)
        backbone = drawing.untrained_stawm(recipe.network).requires_grad_(True)
        pictures = Pictures(pixels, torch.zeros(4), backbone.preprocessing)
        note = drawing.train_stawm(recipe, backbone, pictures, checkpoint)
        return note, backbone.state_dict()

    expected = train(None)
    calls = 0

    def stops(*each: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:  # in the second of two epochs of two steps
            raise KeyboardInterrupt
        return loss(*each)

    loss = drawing.loss
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(drawing, "loss", stops)
        train(file)
    found = train(file)
    assert found[0] == expected[0]
    for name, tensor in expected[1].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=0, atol=0)
    recipe = replace(recipe, epochs=3)
    with pytest.raises(AttnbenchError, match="another recipe"):
        train(file)
