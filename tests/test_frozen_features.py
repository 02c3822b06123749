"""Features of frozen networks: batches, memory and precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from attnbench.adaptation import Gains, batches, features, fit_gauss_newton, frozen_features
from attnbench.adaptation.bfloat16 import frozen_layers_in_bfloat16, supports_bfloat16
from attnbench.adaptation.detectors import LogOdds
from tests.conftest import small_backbone

MEBIBYTE = 1 << 20


@pytest.fixture
def native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the device has units for bfloat16."""
    monkeypatch.setattr("attnbench.adaptation.bfloat16.supports_bfloat16", lambda device: True)


@pytest.fixture
def always_bfloat16(monkeypatch: pytest.MonkeyPatch, native_bfloat16: None) -> None:
    """Use bfloat16 for networks of any size."""
    monkeypatch.setattr("attnbench.adaptation.bfloat16._MIN_PARAMETERS", 0)


class Recorder(nn.Module):
    """Return the input and remember it."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.inputs.append(rows)
        return rows


@given(st.integers(1, 300), st.integers(1, 200_000))
def test_batches_contain_every_row_once_and_are_small(count: int, width: int) -> None:
    features = torch.empty(1, width).expand(count, width)
    for rows in (features, features[:, None, :, None]):
        row_numbers = [range(count)[batch] for batch in batches(rows)]
        assert [number for batch in row_numbers for number in batch] == list(range(count))
        limit = 25 * MEBIBYTE + 4 * width
        assert all(len(batch) * width * 4 <= limit for batch in row_numbers)
    images = torch.empty(1, 3, 1, width).expand(count, 3, 1, width)
    assert next(batches(images)).stop == max(1, 5 * MEBIBYTE // (12 * width))


def test_frozen_features_are_the_outputs_of_the_network() -> None:
    network = small_backbone()
    images = torch.randn(70, 3, 224, 224)
    with torch.no_grad():
        expected = network(images)
    outputs = frozen_features(network, images)
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


def test_small_outputs_continue_in_larger_batches() -> None:
    early, late, last = Recorder(), Recorder(), Recorder()
    pool = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())
    network = nn.Sequential(early, pool, nn.Sequential(late, nn.Linear(588, 4)), last)
    images = torch.randn(20, 3, 224, 224)
    outputs = frozen_features(network, images)
    assert [len(rows) for rows in early.inputs] == [8, 8, 4]
    assert [len(rows) for rows in late.inputs] == [len(rows) for rows in last.inputs] == [20]
    with torch.no_grad():
        torch.testing.assert_close(outputs, network(images), rtol=1e-4, atol=1e-5)


def test_outputs_without_one_row_per_image_are_passed_to_the_next_layer() -> None:
    class Statistics(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))

    class Stack(nn.Module):
        def forward(self, statistics: tuple[Tensor, Tensor]) -> Tensor:
            return torch.stack(statistics)

    class Transpose(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows.T

    network = nn.Sequential(Statistics(), Stack(), nn.Flatten(0), nn.Unflatten(0, (2, -1)))
    network.append(Transpose())
    images = torch.randn(20, 3, 224, 224)
    torch.testing.assert_close(
        frozen_features(network, images),
        torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))], dim=1),
    )


def test_large_features_are_mapped_from_an_unnamed_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(features, "_MAX_BYTES_IN_MEMORY", 1000)
    network = small_backbone().upto("block2")
    images = torch.randn(70, 3, 16, 16)
    outputs = frozen_features(network, images)
    assert str(tmp_path) in Path("/proc/self/maps").read_text() and not list(tmp_path.iterdir())
    with torch.no_grad():
        torch.testing.assert_close(outputs, network(images), rtol=1e-4, atol=1e-5)
    assert outputs.is_contiguous(memory_format=torch.channels_last)


def test_large_features_from_bfloat16_are_mapped_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, always_bfloat16: None
) -> None:
    network, images = small_backbone().upto("block2"), torch.randn(70, 3, 16, 16)
    expected = frozen_features(network, images)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # The size in float32 decides, although the network returns bfloat16.
    monkeypatch.setattr(features, "_MAX_BYTES_IN_MEMORY", expected.nbytes - 1)
    outputs = frozen_features(network, images)
    assert str(tmp_path) in Path("/proc/self/maps").read_text() and not list(tmp_path.iterdir())
    assert torch.equal(outputs, expected)


@pytest.mark.parametrize("exact", [False, True])
def test_no_images_are_an_error(exact: bool, always_bfloat16: None) -> None:
    with pytest.raises(ValueError, match="no images"):
        frozen_features(small_backbone(), torch.empty(0, 3, 16, 16), exact=exact)


def test_bfloat16_changes_features_by_less_than_a_hundredth(always_bfloat16: None) -> None:
    network, images = small_backbone(), torch.randn(40, 3, 64, 64)
    exact, outputs = frozen_features(network, images, exact=True), frozen_features(network, images)
    assert outputs.dtype == torch.float32 and not torch.equal(outputs, exact)
    torch.testing.assert_close(outputs, exact, rtol=0, atol=0.01 * exact.abs().max().item())
    assert np.corrcoef(outputs.flatten(), exact.flatten())[0, 1] > 0.999
    assert next(network.parameters()).dtype == torch.float32


def test_small_networks_stay_in_float32(native_bfloat16: None) -> None:
    network, images = small_backbone(), torch.randn(9, 3, 64, 64)
    exact = frozen_features(network, images, exact=True)
    assert torch.equal(frozen_features(network, images), exact)


def test_layers_behind_small_outputs_stay_in_float32(native_bfloat16: None) -> None:
    early, late = Recorder(), Recorder()
    network = nn.Sequential(nn.Conv2d(3, 3, 1), early, nn.AdaptiveAvgPool2d(1), nn.Flatten(), late)
    network.append(nn.Linear(3, 1_500_000))
    assert frozen_features(network, torch.randn(9, 3, 64, 64)).dtype == torch.float32
    assert {rows.dtype for rows in late.inputs} == {torch.float32}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"avx512_bf16": True}, True),
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_processors_with_units_for_bfloat16_are_recognised(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert supports_bfloat16(torch.device("cpu")) is expected


def test_an_older_torch_cannot_recognise_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not supports_bfloat16(torch.device("cpu"))


def test_gradients_flow_through_frozen_layers_in_bfloat16() -> None:
    torch.manual_seed(0)
    backbone = small_backbone()
    gains = Gains(torch.ones(3))
    trained = nn.Conv2d(3, 3, 1)
    network = nn.Sequential(gains, trained, *backbone, nn.Linear(3, 1))
    network[-1].requires_grad_(False)
    converted = frozen_layers_in_bfloat16(network)
    images = torch.randn(40, 3, 64, 64)

    assert converted(images).dtype == torch.float32
    assert not torch.equal(converted(images), network(images))
    assert set(map(id, network.parameters())) == set(map(id, converted.parameters()))
    gradients, expected = (
        torch.autograd.grad(scorer(images).sum(), [gains.gains, trained.weight])
        for scorer in (converted, network)
    )
    for gradient, exact in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, exact, rtol=0, atol=0.05 * exact.abs().max().item())
    layers = [type(layer) for layer in converted]
    assert nn.Linear in layers and layers.count(nn.Conv2d) == 1  # the trained one


def test_gauss_newton_finds_the_same_in_bfloat16_as_in_float32(
    request: pytest.FixtureRequest,
) -> None:
    def train() -> Tensor:
        torch.manual_seed(0)
        scorer = nn.Sequential(Gains(torch.ones(3)), *small_backbone(), LogOdds(0))
        pos, neg = torch.randn(2, 30, 3, 64, 64)
        pos[:, 0] *= 1.5
        fit_gauss_newton(scorer, pos, neg, steps=3)
        with torch.no_grad():
            return torch.cat([scorer(pos), scorer(neg)])

    exact = train()
    request.getfixturevalue("always_bfloat16")
    scores = train()
    assert not torch.equal(scores, exact)
    assert np.corrcoef(scores, exact)[0, 1] > 0.999
