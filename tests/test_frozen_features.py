"""What is not trained: the network's own outputs, in batches and a precision that suit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from attnbench.adaptation import (
    Gains,
    batches,
    features,
    frozen_outputs,
    gauss_newton,
    quick_outputs,
)
from attnbench.adaptation.bfloat16 import in_bfloat16, with_quick_convolutions
from attnbench.adaptation.detectors import LogOdds
from attnbench.adaptation.large import with_large_layers
from tests.conftest import small_backbone

bfloat16, mebibyte = torch.bfloat16, 1 << 20


@pytest.fixture
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that multiplies in bfloat16, and networks worth it."""
    monkeypatch.setattr("attnbench.adaptation.bfloat16.multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr("attnbench.adaptation.bfloat16._WORTH_IT", 0)


class Seen(nn.Module):
    """Remembers what passed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Tensor] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.rows.append(rows)
        return rows


@given(st.integers(1, 300), st.integers(1, 200_000))
def test_batches_hold_every_row_once_and_little_at_a_time(count: int, width: int) -> None:
    rows = torch.empty(1, width).expand(count, width)
    for each in (rows, rows[:, None, :, None]):
        cut = list(batches(each))
        assert [i for piece in cut for i in range(count)[piece]] == list(range(count))
        assert all(
            len(range(count)[piece]) * width * 4 <= 25 * mebibyte + 4 * width for piece in cut
        )
    images = torch.empty(1, 3, 1, width).expand(count, 3, 1, width)
    assert next(batches(images)).stop == max(1, 5 * mebibyte // (12 * width))


def test_frozen_outputs_are_the_networks_own() -> None:
    network = small_backbone()
    images = torch.randn(70, 3, 224, 224)
    with torch.no_grad():
        expected = network(images)
    found = frozen_outputs(network, images)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_where_little_is_left_it_goes_on_in_larger_batches() -> None:
    early, late, last = Seen(), Seen(), Seen()
    pool = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())
    network = nn.Sequential(early, pool, nn.Sequential(late, nn.Linear(588, 4)), last)
    images = torch.randn(20, 3, 224, 224)
    found = frozen_outputs(network, images)
    assert [len(rows) for rows in early.rows] == [8, 8, 4]
    assert [len(rows) for rows in late.rows] == [len(rows) for rows in last.rows] == [20]
    with torch.no_grad():
        torch.testing.assert_close(found, network(images), rtol=1e-4, atol=1e-5)


def test_what_is_no_row_an_image_goes_on_as_it_is() -> None:
    class Statistics(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))

    class Together(nn.Module):
        def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:
            return torch.stack(both)

    network = nn.Sequential(Statistics(), Together(), nn.Flatten(0), nn.Unflatten(0, (2, -1)))
    network.append(Transposed())
    images = torch.randn(20, 3, 224, 224)
    torch.testing.assert_close(
        frozen_outputs(network, images),
        torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))], dim=1),
    )


class Transposed(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.T


def test_more_than_a_quarter_gibibyte_of_features_is_mapped_from_a_file_without_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(features, "_BYTES_IN_MEMORY", 1000)
    network = small_backbone().upto("block2")
    images = torch.randn(70, 3, 16, 16)
    kept = frozen_outputs(network, images)
    assert str(tmp_path) in Path("/proc/self/maps").read_text() and not list(tmp_path.iterdir())
    with torch.no_grad():
        torch.testing.assert_close(kept, network(images), rtol=1e-4, atol=1e-5)
    assert kept.is_contiguous(memory_format=torch.channels_last)


def test_quick_features_are_mapped_from_a_file_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pays: None
) -> None:
    network, images = small_backbone().upto("block2"), torch.randn(70, 3, 16, 16)
    expected = quick_outputs(network, images)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(features, "_BYTES_IN_MEMORY", expected.nbytes - 1)
    kept = quick_outputs(network, images)
    assert str(tmp_path) in Path("/proc/self/maps").read_text() and not list(tmp_path.iterdir())
    assert torch.equal(kept, expected)


@pytest.mark.parametrize("outputs", [frozen_outputs, quick_outputs])
def test_without_images_there_is_nothing_to_say(outputs: object, pays: None) -> None:
    assert callable(outputs)
    with pytest.raises(ValueError, match="no images"):
        outputs(small_backbone(), torch.empty(0, 3, 16, 16))


def test_bfloat16_changes_features_by_less_than_a_hundredth(pays: None) -> None:
    network, images = small_backbone(), torch.randn(40, 3, 64, 64)
    plain, quick = frozen_outputs(network, images), quick_outputs(network, images)
    assert quick.dtype == torch.float32 and not torch.equal(quick, plain)
    torch.testing.assert_close(quick, plain, rtol=0, atol=0.01 * plain.abs().max().item())
    assert np.corrcoef(quick.flatten(), plain.flatten())[0, 1] > 0.999
    assert next(network.parameters()).dtype == torch.float32


def test_small_networks_and_what_little_is_left_stay_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, images = small_backbone(), torch.randn(9, 3, 64, 64)
    monkeypatch.setattr("attnbench.adaptation.bfloat16.multiplies_bfloat16", lambda device: True)
    assert torch.equal(quick_outputs(network, images), frozen_outputs(network, images))
    early, late = Seen(), Seen()
    large = nn.Sequential(nn.Conv2d(3, 3, 1), early, nn.AdaptiveAvgPool2d(1), nn.Flatten(), late)
    large.append(nn.Linear(3, 1_500_000))
    assert quick_outputs(large, images).dtype == torch.float32
    assert {rows.dtype for rows in late.rows} == {torch.float32}


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="oneDNN has no convolutions in bfloat16 for this processor",
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([0, 1, 2, "same", "valid"]),
    st.sampled_from([1, 4]),
    st.booleans(),
)
def test_a_convolution_joined_with_its_relu_says_the_same_to_the_bit(
    kernel: int, stride: int, dilation: int, padding: int | str, groups: int, bias: bool
) -> None:
    if padding == "same":
        stride = 1
    made = nn.Conv2d(8, 16, kernel, stride, padding, dilation, groups, bias).requires_grad_(False)
    relu = nn.ReLU(inplace=True)
    layers = [made, relu, nn.BatchNorm2d(16).eval(), relu]
    images = torch.randn(3, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        found = nn.Sequential(*in_bfloat16(layers))(images)
        expected = nn.Sequential(*layers).to(bfloat16)(images.to(bfloat16))
    assert found.dtype == bfloat16 and torch.equal(found, expected)


def test_gradients_go_back_through_quick_convolutions_to_what_learns() -> None:
    torch.manual_seed(0)
    backbone = small_backbone()
    gains = Gains(torch.ones(3))
    learning = nn.Conv2d(3, 3, 1)
    plain = nn.Sequential(gains, learning, *backbone, nn.Linear(3, 1))
    plain[-1].requires_grad_(False)
    quick = with_quick_convolutions(plain)
    images = torch.randn(40, 3, 64, 64)

    assert quick(images).dtype == torch.float32
    assert not torch.equal(quick(images), plain(images))
    assert {id(each) for each in plain.parameters()} == {id(each) for each in quick.parameters()}
    found, expected = (
        torch.autograd.grad(each(images).sum(), [gains.gains, learning.weight])
        for each in (quick, plain)
    )
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0.05 * other.abs().max().item())
    layers = [type(each) for each in quick]
    assert nn.Linear in layers and layers.count(nn.Conv2d) == 1  # the one that learns


def test_gauss_newton_in_bfloat16_finds_what_it_finds_in_float32(
    request: pytest.FixtureRequest,
) -> None:
    def found() -> Tensor:
        torch.manual_seed(0)
        score = nn.Sequential(Gains(torch.ones(3)), *small_backbone(), LogOdds(0))
        pos, neg = torch.randn(2, 30, 3, 64, 64)
        pos[:, 0] *= 1.5
        gauss_newton(score, pos, neg, steps=3)
        with torch.no_grad():
            return torch.cat([score(pos), score(neg)])

    plain = found()
    request.getfixturevalue("pays")
    quick = found()
    assert not torch.equal(quick, plain)
    assert np.corrcoef(quick, plain)[0, 1] > 0.999


@pytest.mark.parametrize("bias", [True, False])
def test_a_large_layer_computed_by_onednn_says_the_same_and_passes_the_same_gradients_back(
    bias: bool,
) -> None:
    torch.manual_seed(0)
    large = nn.Linear(4096, 1024, bias=bias).requires_grad_(False)
    network = nn.Sequential(nn.ReLU(), nn.Sequential(large, nn.Tanh()))
    quick = with_large_layers(network)
    assert [type(each) for each in quick][::2] == [nn.ReLU, nn.Tanh]
    assert type(quick[1]) is not nn.Linear
    assert [each.data_ptr() for each in quick.parameters()] == [
        each.data_ptr() for each in network.parameters()
    ]
    for shape in ((0, 4096), (1, 4096), (5, 4096), (2, 3, 4096)):
        own, same = (torch.ones(shape).normal_().requires_grad_() for _ in range(2))
        same.data = own.data
        outputs, expected = quick(own), network(same)
        torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-4)
        weights = torch.randn_like(expected)
        for out in (outputs, expected):
            torch.autograd.backward((out * weights).sum())
        torch.testing.assert_close(own.grad, same.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(frozen_outputs(network, own), expected.detach())


def test_small_layers_those_that_learn_and_other_dtypes_stay_as_they_are() -> None:
    small = nn.Linear(2000, 2000).requires_grad_(False)
    learns = nn.Linear(4096, 1024)
    double = nn.Linear(4096, 1024, dtype=torch.float64).requires_grad_(False)
    for layer in (small, learns, double):
        assert list(with_large_layers(layer)) == [layer]
