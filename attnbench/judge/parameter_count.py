"""Counting a detector's parameters from bytes alone: nothing is unpickled or executed.

Scalars in tensors are the parameters. Every detector also holds other numbers: sizes, settings,
labels, generated code. They are reported apart. But parameters could hide among them, or in the
source. So once there are more than an allowance, all of them count as parameters: a number as one
scalar, a string as one scalar per byte, any other operation of a pickle as one scalar.
"""

from __future__ import annotations

import io
import operator
import pickle
import pickletools
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.wire.artefact import Artefact

# No network's objects need a larger pickle, and nobody writes a larger source file. Larger ones are
# not parsed: each byte counts.
_MAX_PICKLE_BYTES, _MAX_SOURCE_BYTES = 4 << 20, 1 << 20
_TENSOR_NAME = re.compile(r"added/\d{1,6}|changed/[A-Za-z0-9_.]{1,200}")
# Text of this many bytes is long: it is data or code. Shorter ones are names.
_LONG_TEXT = 256
_FLOATS = {"FLOAT", "BINFLOAT"}
_INTEGERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "NEWTRUE", "NEWFALSE"}


class InvalidArtefact(Exception):
    """The bytes are not an artefact."""


@dataclass(frozen=True)
class ArtefactSize:
    """How large an artefact is.

    Attributes:
        parameters_added: scalars added to the backbone.
        parameters_changed: scalars in tensors that replace one of the backbone's.
        other_numbers: numbers and truth values that the detector's objects hold outside tensors, and
            one for every 4 bytes of long text. They are among `parameters_added` only if they exceed
            what settings explain.
        bytes: the size of the artefact in bytes.
    """

    parameters_added: int
    parameters_changed: int
    other_numbers: int
    bytes: int


@dataclass(frozen=True)
class Contents:
    """How much of each kind of content a pickle or a program has.

    Attributes:
        floats: how many floating-point numbers there are.
        integers: how many integers and truth values there are.
        text: bytes of strings, comments and file names.
        other: of a pickle, the number of its remaining operations; of a program, its remaining
            bytes, white space included.
        long_text: the part of `text` that is in strings of at least 256 bytes. Of a program, 0.
    """

    floats: int = 0
    integers: int = 0
    text: int = 0
    other: int = 0
    long_text: int = 0

    def __add__(self, other: Contents) -> Contents:
        return Contents(*map(operator.add, astuple(self), astuple(other)))

    def times(self, count: int) -> Contents:
        """Return `count` times as much of each kind."""
        return Contents(*(count * amount for amount in astuple(self)))

    @property
    def numbers(self) -> int:
        """The numbers, and one for every 4 bytes of long text."""
        return self.floats + self.integers + self.long_text // 4

    def excess_over(self, allowance: Contents) -> int:
        """Return the sum of all amounts if any of them exceeds its allowance, else 0.

        Args:
            allowance: the largest amount of each kind that does not count.
        """
        amounts, allowed = self._amounts, allowance._amounts
        exceeds = any(map(operator.gt, amounts, allowed))
        return sum(amounts) if exceeds else 0

    @property
    def _amounts(self) -> tuple[int, ...]:
        return self.floats, self.integers, self.text, self.other


# What a detector's objects may hold without being counted, beside what the backbone's own objects
# hold: a configuration of some thousand numbers and labels, …
_SETTINGS = Contents(floats=1536, integers=4096, text=32 << 10, other=16 << 10)
# … and for each module of the backbone, the layers that wrap it, or a line of generated code. In
# ResNet-50, peft's LoRA layers hold 25 integers and 320 other operations per module, and a feature
# extractor of torchvision 310 bytes of code (python -m benchmarks.studies.other_numbers).
_PER_MODULE = Contents(floats=2, integers=32, text=512, other=512)
# A second network has objects of its own. They hold far less than one number per 100 parameters.
_PARAMETERS_PER_NUMBER = 100
# What a program may hold without being counted: constants, strings, comments, code, white space.
_PROGRAM = Contents(integers=1000, text=32 << 10, other=64 << 10)


class ParameterCounter:
    """Counts what detectors add to one backbone and change in it.

    Args:
        backbone: the backbone as submissions get it.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._shapes = {name: tensor.shape for name, tensor in tensors_of(backbone).items()}
        (own,) = contents_of_pickles(_pickle_without_tensors(backbone))
        modules = sum(1 for _ in backbone.modules())
        self._allowance = own + _SETTINGS + _PER_MODULE.times(modules)

    def measure(self, artefact: Artefact, source: Mapping[str, bytes]) -> ArtefactSize:
        """Return the size of a detector.

        A tensor that differs from the backbone's in a single scalar is in the artefact, and all of
        its scalars count. A number that needs 64 bits counts as two.

        Args:
            artefact: the detector as the worker delivered it.
            source: the files of the program that the detector has when it predicts, by file name.

        Raises:
            InvalidArtefact: if the bytes are not an artefact.
        """
        added = changed = 0
        for key, tensor in _tensors(artefact.tensors).items():
            origin, _, name = key.partition("/")
            if origin == "changed" and self._shapes.get(name) == tensor.shape:
                changed += _scalars(tensor)
            else:
                added += _scalars(tensor)
        pickles = contents_of_pickles(artefact.structure)
        if len(pickles) != 1:
            raise InvalidArtefact(f"its structure is {len(pickles)} pickles")
        pickles += contents_of_pickles(artefact.reachable_state)
        objects = sum(pickles, Contents())
        of_networks = (added + changed) // _PARAMETERS_PER_NUMBER
        allowance = self._allowance + Contents(*[of_networks] * 4)
        hidden = objects.excess_over(allowance) + contents_of_program(source).excess_over(_PROGRAM)
        size = sum(map(len, astuple(artefact)))
        return ArtefactSize(added + hidden, changed, objects.numbers, size)


def canonical(artefact: Artefact) -> Artefact:
    """Return the artefact with nothing in its tensor file but the tensors.

    The header of a safetensors file can hold free text, which would escape the count.

    Args:
        artefact: the detector as the worker delivered it.

    Raises:
        InvalidArtefact: if its tensor file is malformed, or a tensor has an unexpected name.
    """
    return replace(artefact, tensors=safetensors.torch.save(_tensors(artefact.tensors)))


def changed_tensors(artefact: Artefact) -> tuple[str, ...]:
    """Return the names of the backbone's tensors that a detector has changed, sorted.

    Args:
        artefact: the detector as the worker delivered it.

    Raises:
        InvalidArtefact: as `canonical` does.
    """
    keys = (key.partition("/") for key in _tensors(artefact.tensors))
    return tuple(sorted(name for origin, _, name in keys if origin == "changed"))


def _tensors(file: bytes) -> dict[str, Tensor]:
    try:
        stored: dict[str, Tensor] = safetensors.torch.load(file)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InvalidArtefact(f"its tensors cannot be read: {error}") from None
    for name in stored:
        if not _TENSOR_NAME.fullmatch(name):
            raise InvalidArtefact(f"a tensor named {name[:60]!r}")
    return stored


class _StructurePickler(pickle.Pickler):
    """Pickles a backbone's objects as the sandbox does, with each tensor replaced by a mark."""

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        return ("tensor", "changed") if isinstance(obj, Tensor) else None


def _pickle_without_tensors(backbone: Backbone) -> bytes:
    buffer = io.BytesIO()
    _StructurePickler(buffer, protocol=5).dump(backbone)
    return buffer.getvalue()


def contents_of_pickles(pickled: bytes) -> list[Contents]:
    """Return the contents of each of several concatenated pickles. They are never executed.

    Args:
        pickled: the pickles.

    Raises:
        InvalidArtefact: for anything that is not a pickle.
    """
    if len(pickled) > _MAX_PICKLE_BYTES:
        return [Contents(text=len(pickled), long_text=len(pickled))]
    stream, contents = io.BytesIO(pickled), []
    while stream.tell() < len(pickled):
        try:
            contents.append(_contents_of(pickletools.genops(stream)))
        except Exception as error:  # a malformed argument can make pickletools raise anything
            raise InvalidArtefact(f"its structure cannot be read: {error}") from None
    return contents


def _contents_of(operations: Iterable[tuple[Any, object, object]]) -> Contents:
    floats = integers = text = other = long_text = 0
    for operation, argument, _ in operations:
        if operation.name in _FLOATS:
            floats += 1
        elif operation.name in _INTEGERS:
            integers += 1
            # Integers can have any length. One of more than 64 bits counts by its bytes.
            if isinstance(argument, int):
                integers += argument.bit_length() // 8 if argument.bit_length() > 64 else 0
        elif isinstance(argument, str | bytes | bytearray):
            length = _bytes_in(argument)
            text += length
            long_text += length if length >= _LONG_TEXT else 0
        else:
            other += 1
    return Contents(floats, integers, text, other, long_text)


def contents_of_program(source: Mapping[str, bytes]) -> Contents:
    """Return the contents of a program's files. In a file that is not Python, each byte counts.

    Args:
        source: the files by name.
    """
    return sum((_contents_of_file(*file) for file in source.items()), Contents())


def _contents_of_file(path: str, content: bytes) -> Contents:
    name = _bytes_in(path)
    unparsed = Contents(text=name + len(content))
    if len(content) > _MAX_SOURCE_BYTES:
        return unparsed
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(content).readline))
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError, ValueError):
        return unparsed
    text = sum(_bytes_in(token.string) for token in tokens if token.type in _TEXTS)
    numbers = sum(token.type == tokenize.NUMBER for token in tokens)
    return Contents(integers=numbers, text=name + text, other=max(0, len(content) - text))


# Since Python 3.12, an f-string is several tokens.
_TEXTS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def _bytes_in(value: str | bytes | bytearray) -> int:
    return len(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)


def _scalars(tensor: Tensor) -> int:
    """Return how many numbers of up to 32 bits a tensor holds.

    An empty tensor could hide numbers in its shape, so its sizes count instead.
    """
    if tensor.numel() == 0:
        return tensor.dim()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    count = tensor.numel()
    if tensor.element_size() <= 4:
        return count
    narrow = torch.float32 if tensor.is_floating_point() else torch.int32
    is_wide = (tensor.to(narrow).to(tensor.dtype) != tensor) & ~tensor.isnan()
    return count + int(is_wide.sum())
