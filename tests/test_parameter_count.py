"""What the evaluator counts, from bytes alone."""

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
from attnbench.sandbox.packing import Artefact, ArtefactPacker
from attnbench.judge.parameter_count import (
    Contents,
    InvalidArtefact,
    Inventory,
    canonical,
    contents_of_pickles,
    contents_of_program,
)
from attnbench.resources import submissions_folder


@given(st.lists(st.floats(allow_nan=False)), st.lists(st.integers(-(2**40), 2**40)))
def test_every_number_of_a_pickle_is_counted(floats: list[float], integers: list[int]) -> None:
    (found,) = contents_of_pickles(pickle.dumps((floats, integers), protocol=5))
    assert found.floats == len(floats)
    assert found.integers == len(integers)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_pickle_or_refused(junk: bytes) -> None:
    try:
        contents_of_pickles(junk)
    except InvalidArtefact as error:
        assert "cannot be read" in str(error)


def test_reading_a_pickle_runs_nothing() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, ("1 / 0",)

    assert contents_of_pickles(pickle.dumps(Bomb()))[0].text >= len("1 / 0")


def test_the_settings_of_usual_layers_do_not_count(backbone: Backbone) -> None:
    """LoRA beside every convolution of a ResNet-50 has about this many new layers."""
    packer = ArtefactPacker(backbone)
    layers = [nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)) for _ in range(53)]
    size = Inventory(backbone).measure(packer.pack(nn.Sequential(backbone, *layers)), {})
    assert size.parameters_opaque == 0
    # weight and bias, then weight, bias, mean and variance; the count of batches is the backbone's
    assert size.parameters_added == 53 * (9 + 1 + 4)


@pytest.mark.parametrize("wide", [torch.float64, torch.int64])
def test_a_number_of_64_bits_is_two(backbone: Backbone, wide: torch.dtype) -> None:
    narrow = torch.arange(10).to(wide)
    full = torch.full((10,), 1 / 3, dtype=wide) if wide.is_floating_point else narrow + 2**40
    for values, expected in ((narrow, 10), (full, 20)):
        detector = nn.Identity()
        detector.register_buffer("table", values)
        size = Inventory(backbone).measure(ArtefactPacker(backbone).pack(detector), {})
        assert size.parameters_added == expected


@pytest.mark.parametrize("rows", [[0.1] * 40, [7] * 40, [True, False] * 20, (1.5,) * 40])
def test_a_row_of_numbers_is_counted_exactly_and_comes_back(
    backbone: Backbone, rows: object
) -> None:
    from attnbench.sandbox.packing import unpack

    detector = nn.Identity()
    detector.row = rows  # type: ignore[assignment]
    artefact = ArtefactPacker(backbone).pack(detector)
    assert unpack(artefact, backbone).row == rows
    expected = 80 if rows == [0.1] * 40 else 40  # 0.1 is no 32-bit number
    assert Inventory(backbone).measure(artefact, {}).parameters_added == expected


@pytest.mark.parametrize(
    "text", ["ä" * 300, b"\x00\xff" * 200, bytearray(b"7" * 500), "\udc80" * 300]
)
def test_a_long_text_is_counted_by_its_bytes_and_comes_back(
    backbone: Backbone, text: str | bytes
) -> None:
    from attnbench.sandbox.packing import unpack

    detector = nn.Identity()
    detector.text = text  # type: ignore[assignment]
    artefact = ArtefactPacker(backbone).pack(detector)
    assert unpack(artefact, backbone).text == text
    assert Inventory(backbone).measure(artefact, {}).parameters_added >= len(text)


def test_the_shipped_submissions_are_programs_without_data() -> None:
    for path in submissions_folder().glob("*/submission.py"):
        found = contents_of_program({"submission.py": path.read_bytes()})
        assert found.integers < 50 and found.text < 2000, path


def test_what_python_cannot_read_counts_whole() -> None:
    assert contents_of_program({"a.py": b"'''" + b"7" * 500}).text >= 500
    assert contents_of_program({"a.py": b"\xff\xfe" * 100}) == Contents(text=204)


@pytest.mark.parametrize(
    "source",
    [
        {"a.py": b"\n".join([b" \t" * 10] * 5_000)},  # blank lines, in two kinds of blanks
        {"a.py": b"x = 0x" + b"7" * 100_000},
        {"a.py": b"def f():\n" + b"\n".join(b" a%05d" % n for n in range(15_000))},
        {f"{n:0200}.py": b"" for n in range(500)},
        {"a.py": ("x = 1  # " + "\N{GRINNING FACE}" * 25_000).encode()},
    ],
    ids=["blanks", "one long number", "names", "names of files", "wide characters"],
)
def test_numbers_hidden_in_the_writing_of_a_program_count(
    source: dict[str, bytes], backbone: Backbone
) -> None:
    size = Inventory(backbone).measure(ArtefactPacker(backbone).pack(nn.Identity()), source)
    assert size.parameters_opaque >= 100_000


def test_a_program_has_no_room_for_100000_numbers_uncounted() -> None:
    assert inventory._PROGRAM.text + inventory._PROGRAM.others < 100_000


def test_shapes_of_empty_tensors_are_numbers(backbone: Backbone) -> None:
    detector = nn.Identity()
    detector.register_buffer("note", torch.empty(0, 31, 41, 59))
    size = Inventory(backbone).measure(ArtefactPacker(backbone).pack(detector), {})
    assert size.parameters_added == 4


def test_nothing_follows_the_detector(backbone: Backbone) -> None:
    """What comes after a pickle's end is never executed, so its arguments could be anything."""
    packed = ArtefactPacker(backbone).pack(nn.Identity())
    followed = replace(packed, structure=packed.structure + pickle.dumps("note"))
    with pytest.raises(InvalidArtefact, match="2 pickles"):
        Inventory(backbone).measure(followed, {})


def test_only_tensors_travel_in_the_file_of_tensors(backbone: Backbone) -> None:
    tensors = {"added/0": torch.ones(3)}
    with_text = Artefact(b"", safetensors.torch.save(tensors, {"hidden": "7" * 1000}))
    assert canonical(with_text).tensors == safetensors.torch.save(tensors)
    named = Artefact(b"", safetensors.torch.save({"my favourite": torch.ones(3)}))
    with pytest.raises(InvalidArtefact, match="my favourite"):
        canonical(named)
    header = struct.pack("<Q", 1 << 40) + b"{}"
    with pytest.raises(InvalidArtefact):
        canonical(Artefact(b"", header))
