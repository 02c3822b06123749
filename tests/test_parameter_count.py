"""Counting parameters from bytes alone, without unpickling anything."""

from __future__ import annotations

import pickle
import struct
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attnbench.backbones.backbone import Backbone
from attnbench.judge import parameter_count
from attnbench.judge.parameter_count import (
    Contents,
    InvalidArtefact,
    ParameterCounter,
    canonical,
    contents_of_pickles,
    contents_of_program,
)
from attnbench.resources import submissions_folder
from attnbench.sandbox.packing import ArtefactPacker
from attnbench.sandbox.unpacking import unpack
from attnbench.wire.artefact import Artefact


@given(st.lists(st.floats(allow_nan=False)), st.lists(st.integers(-(2**40), 2**40)))
def test_every_number_of_a_pickle_is_counted(floats: list[float], integers: list[int]) -> None:
    (contents,) = contents_of_pickles(pickle.dumps((floats, integers), protocol=5))
    assert contents.floats == len(floats)
    assert contents.integers == len(integers)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_pickle_or_an_invalid_artefact(content: bytes) -> None:
    try:
        contents_of_pickles(content)
    except InvalidArtefact as error:
        assert "cannot be read" in str(error)


def test_counting_a_pickle_executes_nothing() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, ("1 / 0",)

    assert contents_of_pickles(pickle.dumps(Bomb()))[0].text >= len("1 / 0")


def test_settings_of_ordinary_layers_do_not_count(backbone: Backbone) -> None:
    """LoRA on every convolution of a ResNet-50 adds about this many layers."""
    packer = ArtefactPacker(backbone)
    layers = [nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)) for _ in range(53)]
    size = ParameterCounter(backbone).measure(packer.pack(nn.Sequential(backbone, *layers)), {})
    assert size.parameters_opaque == 0
    # 9 weights and a bias; then weight, bias, mean and variance. The batch counter equals that of
    # the backbone, so it does not count.
    assert size.parameters_added == 53 * (9 + 1 + 4)


@pytest.mark.parametrize("wide", [torch.float64, torch.int64])
def test_number_of_64_bits_counts_as_two(backbone: Backbone, wide: torch.dtype) -> None:
    fits_32_bits = torch.arange(10).to(wide)
    needs_64_bits = (
        torch.full((10,), 1 / 3, dtype=wide) if wide.is_floating_point else fits_32_bits + 2**40
    )
    for values, expected in ((fits_32_bits, 10), (needs_64_bits, 20)):
        detector = nn.Identity()
        detector.register_buffer("table", values)
        size = ParameterCounter(backbone).measure(ArtefactPacker(backbone).pack(detector), {})
        assert size.parameters_added == expected


@pytest.mark.parametrize("row", [[0.1] * 40, [7] * 40, [True, False] * 20, (1.5,) * 40])
def test_row_of_numbers_is_counted_exactly_and_unpacked_unchanged(
    backbone: Backbone, row: object
) -> None:
    detector = nn.Identity()
    detector.row = row  # type: ignore[assignment]
    artefact = ArtefactPacker(backbone).pack(detector)
    assert unpack(artefact, backbone).row == row
    expected = 80 if row == [0.1] * 40 else 40  # 0.1 needs 64 bits
    assert ParameterCounter(backbone).measure(artefact, {}).parameters_added == expected


@pytest.mark.parametrize(
    "text", ["ä" * 300, b"\x00\xff" * 200, bytearray(b"7" * 500), "\udc80" * 300]
)
def test_long_text_is_counted_by_its_bytes_and_unpacked_unchanged(
    backbone: Backbone, text: str | bytes
) -> None:
    detector = nn.Identity()
    detector.text = text  # type: ignore[assignment]
    artefact = ArtefactPacker(backbone).pack(detector)
    assert unpack(artefact, backbone).text == text
    assert ParameterCounter(backbone).measure(artefact, {}).parameters_added >= len(text)


def test_shipped_submissions_have_no_data_in_their_source() -> None:
    for path in submissions_folder().glob("*/submission.py"):
        contents = contents_of_program({"submission.py": path.read_bytes()})
        assert contents.integers < 50 and contents.text < 2000, path


def test_source_that_python_cannot_read_counts_by_its_bytes() -> None:
    assert contents_of_program({"a.py": b"'''" + b"7" * 500}).text >= 500
    assert contents_of_program({"a.py": b"\xff\xfe" * 100}) == Contents(text=204)


@pytest.mark.parametrize(
    "source",
    [
        {"a.py": b"\n".join([b" \t" * 10] * 5_000)},  # spaces and tabs as bits
        {"a.py": b"x = 0x" + b"7" * 100_000},
        {"a.py": b"def f():\n" + b"\n".join(b" a%05d" % n for n in range(15_000))},
        {f"{n:0200}.py": b"" for n in range(500)},
        {"a.py": ("x = 1  # " + "\N{GRINNING FACE}" * 25_000).encode()},
    ],
    ids=["white space", "one long number", "names", "file names", "wide characters"],
)
def test_numbers_hidden_in_the_source_of_a_program_are_counted(
    source: dict[str, bytes], backbone: Backbone
) -> None:
    artefact = ArtefactPacker(backbone).pack(nn.Identity())
    size = ParameterCounter(backbone).measure(artefact, source)
    assert size.parameters_opaque >= 100_000


def test_program_cannot_hold_100000_numbers_uncounted() -> None:
    allowance = parameter_count._PROGRAM
    assert allowance.text + allowance.other < 100_000


def test_sizes_of_an_empty_tensor_count_as_numbers(backbone: Backbone) -> None:
    detector = nn.Identity()
    detector.register_buffer("note", torch.empty(0, 31, 41, 59))
    size = ParameterCounter(backbone).measure(ArtefactPacker(backbone).pack(detector), {})
    assert size.parameters_added == 4


def test_second_pickle_after_the_detector_is_an_invalid_artefact(backbone: Backbone) -> None:
    """Nothing after the end of the first pickle is ever executed, so it could hold any data."""
    artefact = ArtefactPacker(backbone).pack(nn.Identity())
    extended = replace(artefact, structure=artefact.structure + pickle.dumps("note"))
    with pytest.raises(InvalidArtefact, match="2 pickles"):
        ParameterCounter(backbone).measure(extended, {})


def test_tensor_file_may_hold_nothing_but_tensors(backbone: Backbone) -> None:
    tensors = {"added/0": torch.ones(3)}
    with_text = Artefact(b"", safetensors.torch.save(tensors, {"hidden": "7" * 1000}))
    assert canonical(with_text).tensors == safetensors.torch.save(tensors)
    with_odd_name = Artefact(b"", safetensors.torch.save({"my favourite": torch.ones(3)}))
    with pytest.raises(InvalidArtefact, match="my favourite"):
        canonical(with_odd_name)
    header = struct.pack("<Q", 1 << 40) + b"{}"
    with pytest.raises(InvalidArtefact):
        canonical(Artefact(b"", header))
