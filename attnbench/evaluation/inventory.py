"""What a detector knows, counted by the evaluator from bytes alone: nothing is unpickled or run.

Scalars in tensors are counted exactly. What may hide in the rest, in the pickle's own numbers and
texts or in the source, is counted as well, but only where it is more than sizes, names and code can
account for: then all of it counts, a number as one scalar and a text as one a byte.
"""

from __future__ import annotations

import io
import operator
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
from attnbench.evaluation.artefact import Artefact, structure_of

# A longer pickle than that of any network's objects, or a longer file of source than anyone writes,
# counts by its bytes, unread.
_READABLE_BYTES, _READABLE_SOURCE = 4 << 20, 1 << 20
_TENSOR_NAME = re.compile(r"added/\d{1,6}|changed/[A-Za-z0-9_.]{1,200}")
_FLOATS = {"FLOAT", "BINFLOAT"}
_INTEGERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "NEWTRUE", "NEWFALSE"}


class InvalidArtefact(Exception):
    """The bytes are not an artefact."""


@dataclass(frozen=True)
class Size:
    """How large an artefact is.

    Attributes:
        parameters_added: scalars added to the backbone, opaque ones included.
        parameters_changed: scalars in tensors that replace one of the backbone's.
        parameters_opaque: of those added, how many are not in tensors.
        bytes: of the artefact.
    """

    parameters_added: int
    parameters_changed: int
    parameters_opaque: int
    bytes: int


@dataclass(frozen=True)
class Contents:
    """Numbers, bytes of text, and the rest in something that is not a tensor.

    Attributes:
        floats: how many there are.
        integers: how many there are.
        text: bytes of texts, comments and names of files.
        others: of a pickle, its other operations; of a program, its other bytes, blanks included.
    """

    floats: int = 0
    integers: int = 0
    text: int = 0
    others: int = 0

    def __add__(self, other: Contents) -> Contents:
        return Contents(*map(operator.add, astuple(self), astuple(other)))

    def beyond(self, most: Contents) -> int:
        """The sum of those that are more than `most` of their kind, each of them whole."""
        return sum(n for n, limit in zip(astuple(self), astuple(most), strict=True) if n > limit)


# What the objects of a detector may hold beside the backbone's own, twice over (a method may wrap each
# of its modules), without counting: the settings of its layers.
_SETTINGS = Contents(floats=128, integers=4096, text=16 << 10, others=16 << 10)
# What a program may hold: constants, its texts and comments, its words and blanks.
_PROGRAM = Contents(integers=1000, text=32 << 10, others=64 << 10)


class Inventory:
    """Counts what detectors add to and change in one backbone.

    Args:
        backbone: as it is handed out.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._shapes = {name: tensor.shape for name, tensor in tensors_of(backbone).items()}
        (usual,) = contents_of_pickles(structure_of(backbone))
        pairs = zip(astuple(usual), astuple(_SETTINGS), strict=True)
        self._settings = Contents(*(2 * n + more for n, more in pairs))

    def measure(self, artefact: Artefact, source: Mapping[str, bytes]) -> Size:
        """The size of a detector.

        A tensor that differs from the backbone's in one scalar is in the artefact whole and counts
        whole. A number that needs 64 bits counts as two.

        Args:
            artefact: as it came from the worker.
            source: the program that the detector has at hand when it predicts, text by file.

        Raises:
            InvalidArtefact: where the bytes are not an artefact.
        """
        added = changed = 0
        for key, tensor in _tensors(artefact.tensors).items():
            origin, _, name = key.partition("/")
            if origin == "changed" and self._shapes.get(name) == tensor.shape:
                changed += _scalars(tensor)
            else:
                added += _scalars(tensor)
        objects = contents_of_pickles(artefact.structure)
        if len(objects) != 1:
            raise InvalidArtefact(f"its structure is {len(objects)} pickles")
        objects += contents_of_pickles(artefact.held)
        opaque = sum(objects, Contents()).beyond(self._settings)
        opaque += contents_of_program(source).beyond(_PROGRAM)
        size = sum(map(len, astuple(artefact)))
        return Size(added + opaque, changed, opaque, size)


def canonical(artefact: Artefact) -> Artefact:
    """The same artefact with nothing in its tensors' file but the tensors.

    Raises InvalidArtefact for what is not a file of tensors, or one with names of its own.
    """
    return replace(artefact, tensors=safetensors.torch.save(_tensors(artefact.tensors)))


def _tensors(file: bytes) -> dict[str, Tensor]:
    try:
        stored: dict[str, Tensor] = safetensors.torch.load(file)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InvalidArtefact(f"its tensors cannot be read: {error}") from None
    for name in stored:
        if not _TENSOR_NAME.fullmatch(name):
            raise InvalidArtefact(f"a tensor named {name[:60]!r}")
    return stored


def contents_of_pickles(pickled: bytes) -> list[Contents]:
    """What each of some pickles, one after the other, is made of; read, never executed.

    Raises InvalidArtefact for what is not a pickle.
    """
    if len(pickled) > _READABLE_BYTES:
        return [Contents(text=len(pickled))]
    stream, found = io.BytesIO(pickled), []
    while stream.tell() < len(pickled):
        try:
            found.append(_contents_of(pickletools.genops(stream)))
        except Exception as error:  # pickletools raises whatever a malformed argument leads to
            raise InvalidArtefact(f"its structure cannot be read: {error}") from None
    return found


def _contents_of(operations: Iterable[tuple[Any, object, object]]) -> Contents:
    floats = integers = text = others = 0
    for operation, argument, _ in operations:
        if operation.name in _FLOATS:
            floats += 1
        elif operation.name in _INTEGERS:
            integers += 1
            if isinstance(argument, int):
                integers += argument.bit_length() // 8 if argument.bit_length() > 64 else 0
        elif isinstance(argument, str | bytes | bytearray):
            text += _bytes_in(argument)
        else:
            others += 1
    return Contents(floats, integers, text, others)


def contents_of_program(source: Mapping[str, bytes]) -> Contents:
    """What the source files of a program hold; one that Python cannot read counts by its bytes."""
    return sum((_contents_of_file(*file) for file in source.items()), Contents())


def _contents_of_file(path: str, content: bytes) -> Contents:
    name = _bytes_in(path)
    unread = Contents(text=name + len(content))
    if len(content) > _READABLE_SOURCE:
        return unread
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(content).readline))
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError, ValueError):
        return unread
    text = sum(_bytes_in(token.string) for token in tokens if token.type in _TEXTS)
    numbers = sum(token.type == tokenize.NUMBER for token in tokens)
    return Contents(integers=numbers, text=name + text, others=max(0, len(content) - text))


_TEXTS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def _bytes_in(value: str | bytes | bytearray) -> int:
    return len(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)


def _scalars(tensor: Tensor) -> int:
    """How many numbers of at most 32 bits a tensor holds; of an empty one, those that are its shape."""
    if tensor.numel() == 0:
        return tensor.dim()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    count = tensor.numel()
    if tensor.element_size() <= 4:
        return count
    narrow = torch.float32 if tensor.is_floating_point() else torch.int32
    wide = (tensor.to(narrow).to(tensor.dtype) != tensor) & ~tensor.isnan()
    return count + int(wide.sum())
