"""Overridden hyperparameters (`--set NAME=VALUE`): parsed, written as TOML, and made into names.

A value is kept as TOML, in exactly one form for each value: in records, hashes and titles.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from attnbench.errors import AttnbenchError
from attnbench.text import printable

Scalar = bool | int | float | str
Value = Scalar | Sequence[Scalar]
# A value for each hyperparameter, or several values to sweep over.
Settings = Mapping[str, Value | Iterable[Value]]

_MAX_NAME = 64
_MAX_TOKEN = 20
# What a value's text may contain to stand in a submission's name as it is.
_PLAIN = re.compile(r"-?[A-Za-z0-9_.]+(e-[0-9]+)?")
_NOT_IN_BARE_TEXT = re.compile(r"[\[\]{}\"']")


class Overrides(BaseModel):
    """The hyperparameters that replace those of a submission's manifest.

    Attributes:
        submission: the name of the submission in its manifest.
        hyperparameters: the values as TOML, sorted by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    submission: Annotated[str, Field(max_length=_MAX_NAME)]
    hyperparameters: dict[
        Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=10_000)]
    ]

    def __str__(self) -> str:
        """The overrides for people, such as `intensity = 0.3, steps = 4`."""
        return ", ".join(f"{name} = {text}" for name, text in self.hyperparameters.items())

    @property
    def name(self) -> str:
        """The name of the submission with these overrides, such as `attention-intensity-0.3`.

        It has at most 64 letters, digits, `_`, `.` and `-`. What does not fit is replaced by the start
        of its SHA-256 (hex), so different overrides have different names.
        """
        tokens = [(name, _token(text)) for name, text in self.hyperparameters.items()]
        name = "-".join([self.submission, *itertools.chain.from_iterable(tokens)])
        if len(name) <= _MAX_NAME:
            return name
        digest = _digest(self.model_dump_json())
        return f"{name[: _MAX_NAME - len(digest)]}{digest}"

    def hash_with(self, sha256: str) -> str:
        """Return the SHA-256 (hex) of a submission with these overrides.

        Args:
            sha256: the SHA-256 (hex) of the submission without them.
        """
        text = "\0".join([sha256, json.dumps(self.hyperparameters, sort_keys=True)])
        return hashlib.sha256(text.encode()).hexdigest()


def parse_settings(options: Iterable[str]) -> dict[str, list[Value]]:
    """Return the values of each `NAME=VALUE` or `NAME=VALUE,VALUE,…`, by name.

    A value is written as in TOML. A string without quotes, brackets and commas needs no quotes.

    Raises:
        AttnbenchError: if an option has another form, or a name is given twice.
    """
    settings: dict[str, list[Value]] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name = name.strip()
        if not equals or not name:
            raise AttnbenchError(
                f"--set {printable(option)}: write NAME=VALUE, such as --set intensity=0.3"
            )
        if name in settings:
            raise AttnbenchError(
                f"--set names {printable(name)} twice: write --set {printable(name)}=A,B to run "
                "with both values"
            )
        settings[name] = _parse_values(option, text.strip())
    return settings


def toml_of(value: Value) -> str:
    """Return a value as TOML, such as `0.3`, `true`, `"text"` or `[1, 2]`."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            # JSON's escapes are TOML's, but TOML also wants DEL escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(toml_of, value))}]"


def _parse_values(option: str, text: str) -> list[Value]:
    values = _parse_array(text)
    if values is not None:
        return values or [""]  # NAME= is an empty text
    pieces = [piece.strip() for piece in text.split(",")]
    parsed: list[Value] = []
    for piece in pieces:
        array = _parse_array(piece)
        if array is None and _NOT_IN_BARE_TEXT.search(piece):
            raise AttnbenchError(
                f"--set {printable(option)}: {printable(piece)} is not a TOML value; put double "
                "quotes around a text with brackets or quotes, and single quotes around all of it "
                """for the shell: --set 'NAME="VALUE"'"""
            )
        parsed.append(array[0] if array else piece)
    return parsed


def _parse_array(text: str) -> list[Value] | None:
    """Return comma-separated TOML values, or None if the text is something else."""
    try:
        content = tomllib.loads(f"values = [{text}]")
    except (ValueError, RecursionError):
        return None
    return content["values"] if len(content) == 1 else None


def _token(text: str) -> str:
    """Return a TOML value in the form that it has in a submission's name."""
    plain = text.strip('"')
    if len(plain) <= _MAX_TOKEN and _PLAIN.fullmatch(plain):
        return plain
    readable = re.sub("[^A-Za-z0-9_.]+", "_", plain).strip("_")[:_MAX_TOKEN]
    return f"{readable}{_digest(text)}"


def _digest(text: str) -> str:
    # A hyperparameter follows a single dash and starts with no digit. Nothing else looks like this.
    return f"--{hashlib.sha256(text.encode()).hexdigest()[:8]}"
