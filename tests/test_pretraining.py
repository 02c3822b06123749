"""Pretraining: published sizes, losses against their formulas, and short trainings."""

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
from attnbench.errors import AttnbenchError
from pretraining.__main__ import pretrain, write_weights
from pretraining.recipes import RECIPES, Recipe, TrainingSet
from pretraining.simclr import TEMPERATURE, augment, contrastive_loss
from pretraining.stawm import network as stawm_network
from pretraining.stawm import training as stawm_training
from pretraining.stawm.network import StawmAutoencoder, StawmEncoder, untrained_stawm
from pretraining.stawm.probe import GlimpseFeatures, PublishedProbe
from pretraining.stawm.training import train_stawm
from pretraining.vae import BETA, BetaVAE, beta_vae_loss, train_vae


def test_the_beta_vae_has_the_published_number_of_parameters() -> None:
    model = BetaVAE(load("shipped/cifar-vae", untrained=True))
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_054_339
    reconstructions, mean, log_variance = model(torch.rand(2, 3, 32, 32))
    assert reconstructions.shape == (2, 3, 32, 32) and mean.shape == log_variance.shape == (2, 32)


def test_the_beta_vae_loss_is_squared_error_plus_beta_times_the_divergence() -> None:
    images, reconstructions = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    mean, log_variance = torch.full((2, 32), 2.0), torch.zeros(2, 32)
    # KL(N(m, 1), N(0, 1)) = m^2 / 2 in each of 32 dimensions.
    expected = 2 * 48 * 0.25 + BETA * 32 * 2.0
    assert beta_vae_loss(images, reconstructions, mean, log_variance).item() == pytest.approx(
        expected
    )


def test_the_contrastive_loss_equals_a_plain_loop() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(5, 8), torch.randn(5, 8)
    codes = [*functional.normalize(first, dim=1), *functional.normalize(second, dim=1)]
    losses = []
    for i, code in enumerate(codes):
        exponentials = [math.exp(float(code @ other) / TEMPERATURE) for other in codes]
        losses.append(-math.log(exponentials[(i + 5) % 10] / (sum(exponentials) - exponentials[i])))
    assert contrastive_loss(first, second).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_augmented_views_are_in_range_and_differ() -> None:
    torch.manual_seed(0)
    images = torch.rand(16, 3, 32, 32)
    first, second = augment(images), augment(images)
    assert first.shape == images.shape
    assert first.min() >= 0 and first.max() <= 1
    assert not torch.allclose(first, second)


@pytest.mark.slow
def test_supervised_training_beats_chance() -> None:
    recipe = replace(RECIPES["digits-cnn"], epochs=6)
    network, metadata = pretrain(recipe, None)
    assert float(metadata["held_out_accuracy"]) > 0.5
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.slow
def test_the_beta_vae_learns_to_reconstruct() -> None:
    encoder = load("shipped/cifar-vae", untrained=True)
    encoder.requires_grad_(True).train()
    grey = np.full((256, 3, 32, 32), 60, np.uint8)
    training_set = TrainingSet(grey, torch.zeros(256), encoder.preprocessing)
    torch.manual_seed(0)
    metadata = train_vae(replace(RECIPES["cifar-vae"], epochs=4), encoder, training_set)
    # The untrained decoder outputs about 0.5 everywhere.
    untrained_loss = 3 * 32 * 32 * (0.5 - 60 / 255) ** 2
    assert float(metadata["loss_per_image"]) < untrained_loss


def test_stawm_weights_on_disk_are_those_of_the_trained_network(tmp_path: Path) -> None:
    recipe = replace(RECIPES["cifar-stawm-small-budget"], batch=16)
    network = untrained_stawm("made-up")
    initial_weight = network.stage("code").weight.clone()
    network.requires_grad_(True).train()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3, 32, 32), np.uint8)
    training_set = TrainingSet(pixels, torch.zeros(32), network.preprocessing)
    metadata = train_stawm(recipe, network, training_set, tmp_path / "checkpoint")
    network.requires_grad_(False).eval()
    assert not torch.equal(network.stage("code").weight, initial_weight)
    write_weights(tmp_path / "made-up.safetensors", network, metadata)
    loaded = untrained_stawm("made-up")
    loaded.load_state_dict(load_file(tmp_path / "made-up.safetensors"))
    images = torch.from_numpy(training_set.unit_range(np.arange(8)))
    with torch.no_grad():
        # Weights are stored in half precision.
        torch.testing.assert_close(loaded.eval()(images), network(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("name", "mirrored"), [("cifar-stawm", True), ("mnist-stawm", False)])
def test_training_mirrors_pictures_but_not_digits(name: str, mirrored: bool) -> None:
    network = untrained_stawm("made-up").requires_grad_(True).train()
    pixels = np.zeros((64, 3, 32, 32), np.uint8)
    pixels[..., 16:] = 255  # the right half is white
    inputs: list[torch.Tensor] = []
    network.stage("memory").context.register_forward_pre_hook(
        lambda _, arguments: inputs.append(arguments[0])
    )
    training_set = TrainingSet(pixels, torch.zeros(64), network.preprocessing)
    train_stawm(replace(RECIPES[name], epochs=1, batch=32), network, training_set)
    is_mirrored = torch.cat(inputs)[:, 0, 0, 0] > 0
    assert len(is_mirrored) == 64 and bool(is_mirrored.any()) == mirrored


def test_stawm_has_the_published_size_without_the_unused_layer() -> None:
    model = StawmAutoencoder(untrained_stawm("test/stawm"))
    size = sum(parameter.numel() for parameter in model.parameters())
    assert size == 2_570_738 - (256 * 256 + 256)
    drawn, mean, log_variance = model(torch.rand(2, 3, 32, 32))
    assert drawn.shape == (2, 3, 32, 32) and mean.shape == log_variance.shape == (2, 8 * 32)


def test_the_published_stawm_probe_reads_the_memorys_answer() -> None:
    encoder = StawmEncoder().eval()
    probe = PublishedProbe(encoder.memory)
    assert sum(parameter.numel() for parameter in probe.parameters()) == 133_901
    # With the encoder's own query, the probe computes the answer that the encoder returns.
    probe.query.load_state_dict(encoder.query.state_dict())
    images = torch.rand(2, 3, 32, 32)
    logits = probe(GlimpseFeatures(encoder)(images))
    torch.testing.assert_close(logits, probe.classes(encoder(images)))


def test_an_interrupted_stawm_training_continues_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe("test/stawm", "made up", None, 2, 2, 1e-3, 0.0)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    monkeypatch.setattr(stawm_training, "_SAVE_INTERVAL", -1.0)  # save after every step
    monkeypatch.setattr(stawm_network, "GLIMPSES", 2)
    checkpoint = tmp_path / "checkpoint"

    def train(checkpoint: Path | None) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        backbone = untrained_stawm(recipe.network).requires_grad_(True)
        training_set = TrainingSet(pixels, torch.zeros(4), backbone.preprocessing)
        metadata = train_stawm(recipe, backbone, training_set, checkpoint)
        return metadata, backbone.state_dict()

    expected_metadata, expected_weights = train(None)
    calls = 0

    def interrupted_loss(*arguments: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:  # the last step of two epochs of two steps
            raise KeyboardInterrupt
        return beta_vae_loss(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stawm_training, "beta_vae_loss", interrupted_loss)
        train(checkpoint)
    metadata, weights = train(checkpoint)
    assert metadata == expected_metadata
    for name, tensor in expected_weights.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=0)
    recipe = replace(recipe, epochs=3)
    with pytest.raises(AttnbenchError, match="another recipe"):
        train(checkpoint)
