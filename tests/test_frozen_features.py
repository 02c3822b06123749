"""Features of frozen networks: batches, memory and precision."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from attnbench.adaptation import Detector, Precision, batches, features, frozen_features
from tests.conftest import small_backbone

MEBIBYTE = 1 << 20


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
    assert not outputs.requires_grad and outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(frozen_features(network, images, precision="float32"), outputs)


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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network, images = small_backbone().upto("block2"), torch.randn(70, 3, 16, 16)
    expected = frozen_features(network, images, precision="bfloat16")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # The size in float32 decides, although the network returns bfloat16.
    monkeypatch.setattr(features, "_MAX_BYTES_IN_MEMORY", expected.nbytes - 1)
    outputs = frozen_features(network, images, precision="bfloat16")
    assert str(tmp_path) in Path("/proc/self/maps").read_text() and not list(tmp_path.iterdir())
    assert torch.equal(outputs, expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_images_are_an_error(precision: Precision) -> None:
    with pytest.raises(ValueError, match="no images"):
        frozen_features(small_backbone(), torch.empty(0, 3, 16, 16), precision=precision)


@pytest.mark.parametrize("precision", ["float16", "", None, 32])
def test_unknown_precision_is_an_error(precision: Any) -> None:
    with pytest.raises(ValueError, match=f'"{precision}": use "float32" or "bfloat16"'):
        frozen_features(small_backbone(), torch.zeros(1, 3, 16, 16), precision=precision)


def test_bfloat16_changes_features_by_less_than_a_hundredth() -> None:
    network, images = small_backbone(), torch.randn(40, 3, 64, 64)
    exact = frozen_features(network, images)
    outputs = frozen_features(network, images, precision="bfloat16")
    assert outputs.dtype == torch.float32 and not torch.equal(outputs, exact)
    torch.testing.assert_close(outputs, exact, rtol=0, atol=0.01 * exact.abs().max().item())
    assert np.corrcoef(outputs.flatten(), exact.flatten())[0, 1] > 0.999
    assert next(network.parameters()).dtype == torch.float32


def test_layers_behind_small_outputs_stay_in_float32() -> None:
    early, late = Recorder(), Recorder()
    network = nn.Sequential(nn.Conv2d(3, 3, 1), early, nn.AdaptiveAvgPool2d(1), nn.Flatten(), late)
    network.append(nn.Linear(3, 5))
    outputs = frozen_features(network, torch.randn(9, 3, 64, 64), precision="bfloat16")
    assert {rows.dtype for rows in early.inputs} == {torch.bfloat16}
    assert {rows.dtype for rows in late.inputs} == {outputs.dtype} == {torch.float32}


def test_both_precisions_stop_at_the_same_layer() -> None:
    # The convolution makes 5/12 as many numbers as an image has; in bfloat16, 5/24 of the bytes.
    late = Recorder()
    network = nn.Sequential(nn.Conv2d(3, 5, 2, stride=2), late, nn.AdaptiveAvgPool2d(1))
    for precision in get_args(Precision):
        frozen_features(network, torch.randn(20, 3, 224, 224), precision=precision)
    assert [len(rows) for rows in late.inputs] == [8, 8, 4] * 2


@pytest.mark.parametrize("precision", get_args(Precision))
def test_an_empty_network_returns_the_images(precision: Precision) -> None:
    images = torch.randn(2, 3, 4, 4)
    assert frozen_features(nn.Sequential(), images, precision=precision) is images


def test_a_detector_passes_the_precision_on() -> None:
    network = small_backbone()
    images = torch.randn(4, 3, 16, 16)
    detector = Detector(network.stage("head"), 0, images[:1], frozen=network.upto("block2"))
    expected = frozen_features(detector.frozen, images, precision="bfloat16")
    pos, neg = detector.frozen_features(images, images, precision="bfloat16")
    assert torch.equal(pos, expected) and torch.equal(neg, expected)
    assert not torch.equal(detector.frozen_features(images, images)[0], expected)
