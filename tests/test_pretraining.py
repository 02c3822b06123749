"""The recipes behind the shipped networks: published sizes, losses by their formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from attnbench.backbones import load
from attnbench.backbones.pretraining import vae
from attnbench.backbones.pretraining.__main__ import pretrain, write_weights
from attnbench.backbones.pretraining.recipes import RECIPES, Pictures
from attnbench.backbones.pretraining.simclr import TEMPERATURE, augment, contrastive_loss
from attnbench.backbones.pretraining.stawm import train_stawm, untrained_stawm
from attnbench.backbones.pretraining.vae import BetaVAE, train_vae


def test_the_beta_vae_has_the_published_number_of_parameters() -> None:
    model = BetaVAE(load("shipped/cifar-vae", untrained=True))
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_054_339
    drawn, mean, log_variance = model(torch.rand(2, 3, 32, 32))
    assert drawn.shape == (2, 3, 32, 32) and mean.shape == log_variance.shape == (2, 32)


def test_its_loss_is_squared_error_and_twice_the_divergence() -> None:
    images, drawn = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    mean, log_variance = torch.full((2, 32), 2.0), torch.zeros(2, 32)
    # KL(N(m, 1), N(0, 1)) = m^2 / 2 in each of 32 dimensions
    expected = 2 * 48 * 0.25 + vae.BETA * 32 * 2.0
    assert vae.loss(images, drawn, mean, log_variance).item() == pytest.approx(expected)


def test_the_contrastive_loss_against_a_plain_loop() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(5, 8), torch.randn(5, 8)
    codes = [*functional.normalize(one, dim=1), *functional.normalize(other, dim=1)]
    terms = []
    for i, code in enumerate(codes):
        exponents = [math.exp(float(code @ each) / TEMPERATURE) for each in codes]
        terms.append(-math.log(exponents[(i + 5) % 10] / (sum(exponents) - exponents[i])))
    assert contrastive_loss(one, other).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_views_are_pictures_and_differ() -> None:
    torch.manual_seed(0)
    images = torch.rand(16, 3, 32, 32)
    one, other = augment(images), augment(images)
    assert one.shape == images.shape
    assert one.min() >= 0 and one.max() <= 1
    assert not torch.allclose(one, other)


@pytest.mark.slow
def test_a_recipe_trains_a_network_better_than_chance() -> None:
    recipe = replace(RECIPES["digits-cnn"], epochs=6)
    network, note = pretrain(recipe, None)
    assert float(note["held_out_accuracy"]) > 0.5
    assert not network.training and not any(p.requires_grad for p in network.parameters())


@pytest.mark.slow
def test_drawing_learns_to_draw() -> None:
    encoder = load("shipped/cifar-vae", untrained=True)
    encoder.requires_grad_(True).train()
    grey = np.full((256, 3, 32, 32), 60, np.uint8)
    pictures = Pictures(grey, torch.zeros(256), encoder.preprocessing)
    torch.manual_seed(0)
    note = train_vae(replace(RECIPES["cifar-vae"], epochs=4), encoder, pictures)
    # the untrained decoder draws 0.5 everywhere
    assert float(note["loss_per_image"]) < 3 * 32 * 32 * (0.5 - 60 / 255) ** 2


def test_what_a_training_of_stawm_writes_is_the_network_it_trained(tmp_path: Path) -> None:
    recipe = replace(RECIPES["cifar-stawm-small-budget"], batch=16)
    network = untrained_stawm("made-up")
    before = network.stage("code").weight.clone()
    network.requires_grad_(True).train()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3, 32, 32), np.uint8)
    pictures = Pictures(pixels, torch.zeros(32), network.preprocessing)
    note = train_stawm(recipe, network, pictures, tmp_path / "checkpoint")
    network.requires_grad_(False).eval()
    assert not torch.equal(network.stage("code").weight, before)
    write_weights(tmp_path / "made-up.safetensors", network, note)
    read = untrained_stawm("made-up")
    read.load_state_dict(load_file(tmp_path / "made-up.safetensors"))
    images = torch.from_numpy(pictures.shares(np.arange(8)))
    with torch.no_grad():
        torch.testing.assert_close(read.eval()(images), network(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("name", "mirrored"), [("cifar-stawm", True), ("mnist-stawm", False)])
def test_mirror_images_are_seen_of_pictures_but_not_of_digits(name: str, mirrored: bool) -> None:
    network = untrained_stawm("made-up").requires_grad_(True).train()
    pixels = np.zeros((64, 3, 32, 32), np.uint8)
    pixels[..., 16:] = 255
    seen: list[torch.Tensor] = []
    network.stage("memory").context.register_forward_pre_hook(lambda _, rows: seen.append(rows[0]))
    pictures = Pictures(pixels, torch.zeros(64), network.preprocessing)
    train_stawm(replace(RECIPES[name], epochs=1, batch=32), network, pictures)
    bright_at_the_left = torch.cat(seen)[:, 0, 0, 0] > 0
    assert len(bright_at_the_left) == 64 and bool(bright_at_the_left.any()) == mirrored
