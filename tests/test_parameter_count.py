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
    ArtefactSize,
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


def measured(backbone: Backbone, table: object = None) -> ArtefactSize:
    """The size of a detector that holds this object and nothing else."""
    detector = nn.Identity()
    detector.table = table  # type: ignore[assignment]
    return ParameterCounter(backbone).measure(ArtefactPacker(backbone).pack(detector), {})


@pytest.mark.parametrize(
    ("table", "numbers"),
    [
        ([0.1] * 40, 40),
        ((1.5,) * 40, 40),
        ([7] * 40, 40),
        ([True, False] * 20, 40),
        ({n: 0.1 for n in range(20)}, 40),
        ("short", 0),
        ("x" * 255, 0),
        ("x" * 400, 100),
        ("ä" * 400, 200),
        (b"\x00\xff" * 200, 100),
        (bytearray(b"7" * 400), 100),
        ("\udc80" * 400, 300),
    ],
)
def test_numbers_outside_tensors_are_reported_apart_and_unpacked_unchanged(
    backbone: Backbone, table: object, numbers: int
) -> None:
    size = measured(backbone, table)
    assert size.other_numbers == measured(backbone).other_numbers + numbers
    assert size.parameters_added == 0
    detector = nn.Identity()
    detector.table = table  # type: ignore[assignment]
    assert unpack(ArtefactPacker(backbone).pack(detector), backbone).table == table


@given(st.integers(0, 3_000), st.integers(0, 6_000), st.integers(0, 60_000))
def test_other_numbers_count_all_or_not_at_all(floats: int, integers: int, text: int) -> None:
    contents = Contents(floats, integers, text)
    allowed = Contents(1_000, 2_000, 30_000, 5)
    fits = floats <= 1_000 and integers <= 2_000 and text <= 30_000
    assert contents.excess_over(allowed) == (0 if fits else floats + integers + text)


def test_a_second_network_may_hold_one_number_per_100_parameters(backbone: Backbone) -> None:
    table = [0.1] * 5_000
    assert measured(backbone, table).parameters_added > 5_000
    parameters = 500_000
    assert measured(backbone, (table, torch.rand(parameters))).parameters_added == parameters


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
    assert size.parameters_added >= 100_000


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
