"""The study of spatial attention trained from scratch: its network, its noise and its table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.studies import spatial_attention_on_mnist as study
from benchmarks.studies.spatial_attention_on_mnist import MAPS, SIGMAS, Network, Row


@pytest.fixture(params=MAPS)
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    return Network(request.param)


@pytest.fixture
def digits() -> Tensor:
    return 255 * torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def test_the_network_has_as_many_parameters_as_the_post(network: Network) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_898


def test_without_map_the_gains_are_one_and_otherwise_their_mean_is_as_published(
    network: Network, digits: Tensor
) -> None:
    features = torch.relu(torch.randn(3, 32, 17, 17))
    gains = network.gains(features).expand(3, 1, 17, 17)[:, :, 1:-1, 1:-1]
    expected = 1.0 if network.map_name == "ones" else 1 / 15
    torch.testing.assert_close(gains.mean(dim=(2, 3)), torch.full((3, 1), expected))
    varies = gains.std(dim=(2, 3)) > 1e-4
    assert varies.all() if network.map_name == "class activations" else not varies.any()
    assert network(digits).shape == (3, 10)


def test_the_constant_is_what_the_published_code_computes() -> None:
    torch.manual_seed(0)
    network = Network("constant")
    features = torch.relu(torch.randn(1, 32, 17, 17))
    maps = torch.relu(network.conv_2(features))[0].permute(1, 2, 0)
    means = network.dense(maps).softmax(dim=2).mean(dim=2)
    torch.testing.assert_close(
        means / means.sum(dim=0), network.gains(features)[0, 0].expand(15, 15)
    )


def test_class_activations_are_learned_through() -> None:
    network = Network("class activations")
    (gradient,) = torch.autograd.grad(
        network.gains(torch.relu(torch.randn(1, 32, 17, 17)))[0, 0, 8, 8], network.dense.weight
    )
    assert gradient.abs().sum() > 0


def test_noise_is_for_pixels_from_0_to_255() -> None:
    noise = study.with_noise(torch.zeros(100_000), 2.5 / 255)
    assert noise.std().item() == pytest.approx(2.5, rel=0.02)


def test_networks_trained_on_clean_digits_are_tested_at_each_level_of_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Digits that are bars, so that a little training suffices.
    labels = torch.arange(10).repeat(30)
    images = torch.zeros(300, 1, 28, 28)
    for label in range(10):
        images[labels == label, 0, 2 + 2 * label : 5 + 2 * label] = 1.0
        images[labels == label, 0, :, : 2 * label] = 1.0
    monkeypatch.setattr(study, "mnist", lambda split, data: (images, labels))
    rows = study.measure(("ones", None, 0, 300, 12, Path("unused")))
    assert [row.sigma for row in rows] == list(SIGMAS)
    assert {row.trained for row in rows} == {"clean"}
    assert rows[0].clean > 0.6
    assert rows[-1].noisy < rows[0].clean - 0.2
    (row,) = study.measure(("ones", 1.0, 0, 300, 12, Path("unused")))
    assert row.trained == "noisy"
    assert row.noisy > rows[-1].noisy


def test_the_table_has_the_mean_and_the_range_of_the_seeds() -> None:
    rows = [
        Row(name, sigma, seed, trained, 0.9 + 0.02 * seed, 0.5)
        for name in MAPS
        for sigma in SIGMAS[:1]
        for seed in (0, 1)
        for trained in ("clean", "noisy")
    ]
    lines = study.table(rows).splitlines()
    assert len(lines) == 2 + len(MAPS)
    assert "| 0.0098 | ones " in lines[2]
    assert "91.0% (90.0% to 92.0%)" in lines[2]
    assert "50.0% (50.0% to 50.0%)" in lines[2]
