"""The manifest of a submission, `submission.toml`: its schema, and how the file is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attnbench.errors import AttnbenchError
from attnbench.libraries import NAME_PATTERN as LIBRARY_PATTERN
from attnbench.text import did_you_mean

MANIFEST_LIMIT = 64 * 2**10
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

_Line = Annotated[str, Field(min_length=1, max_length=200)]
_Key = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
_Text = Annotated[str, Field(max_length=1000)]
_Value = bool | int | float | _Text
_Values = Annotated[list[_Value], Field(max_length=1000)]
Hyperparameters = Annotated[dict[_Key, _Value | _Values], Field(max_length=64)]
_Library = Annotated[str, Field(pattern=LIBRARY_PATTERN)]
_Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    # Strict mode converts nothing: `lr = "0.1"` stays a string, and
    # `declared_parameters = true` is an error.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BackboneSettings(_Model):
    """A submission's settings for one backbone, which override its general settings.

    Attributes:
        declared_parameters: how many parameters it adds or changes on this backbone.
        hyperparameters: the values that differ on this backbone.
    """

    declared_parameters: _Count | None = None
    hyperparameters: Hyperparameters = Field(default_factory=dict)


class Budget(_Model):
    """How much an adaptation may spend, for curves of sensitivity against cost.

    Attributes:
        parameter: the hyperparameter that sets it, such as the number of steps.
        values: positive values of it, ascending.
    """

    parameter: _Key
    values: Annotated[list[int | float], Field(min_length=2, max_length=32)]

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if self.values[0] <= 0 or any(a >= b for a, b in pairwise(self.values)):
            raise ValueError("`values` must be positive and ascending")
        return self


class Manifest(_Model):
    """`submission.toml`. `name`, `title` and `authors` are required.

    Attributes:
        name: the name on the leaderboard: letters, digits, `_`, `.`, `-`.
        title: what the method is, in one line.
        authors: the submission's authors.
        licence: SPDX identifier of the licence of its code.
        paper: a reference or URL for the method.
        description: a few sentences.
        declared_parameters: how many parameters it adds or changes, according to its authors.
        libraries: names of the installed distributions that it imports. The fork server imports
            them once, for all workers.
        hyperparameters: keyword arguments for `adapt`: booleans, numbers, strings, and lists of
            these.
        backbone: overrides by backbone name, such as `torchvision/vgg16`.
        budget: what `attnbench curve --budget declared` varies.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    title: _Line
    authors: Annotated[list[_Line], Field(min_length=1, max_length=100)]
    licence: Annotated[str, Field(max_length=200)] = ""
    paper: _Text = ""
    description: Annotated[str, Field(max_length=10_000)] = ""
    declared_parameters: _Count | None = None
    libraries: Annotated[list[_Library], Field(max_length=50)] = Field(default_factory=list)
    hyperparameters: Hyperparameters = Field(default_factory=dict)
    backbone: Annotated[dict[_Line, BackboneSettings], Field(max_length=100)] = Field(
        default_factory=dict
    )
    budget: Budget | None = None

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.budget is not None and self.budget.parameter not in self.hyperparameters:
            raise ValueError(
                f"budget.parameter: there is no hyperparameter {self.budget.parameter!r}"
            )
        return self


# The schemas of tables in a manifest, by key.
_TABLES: dict[str, type[BaseModel]] = {"backbone": BackboneSettings, "budget": Budget}


def read_manifest(path: Path, text: bytes) -> Manifest:
    """Read and validate a manifest.

    Args:
        path: the file, for messages.
        text: its content.

    Raises:
        AttnbenchError: if it is too large or not valid. The message names every wrong key.
    """
    if len(text) > MANIFEST_LIMIT:
        raise AttnbenchError(f"{path} is larger than {MANIFEST_LIMIT // 2**10} KiB")
    try:
        content = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AttnbenchError(f"{path} is not valid TOML: {error}") from None
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in _explain(error, content))
        raise AttnbenchError(f"{path} is not a valid manifest:\n{problems}") from None


def _explain(error: ValidationError, content: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each wrong key: the key, what is wrong with it, and what to write instead."""
    seen = set()
    for problem in error.errors(include_url=False):
        location = [str(part) for part in problem["loc"]]
        # pydantic reports each branch of a union. To the user it is one problem: a wrong type.
        if "hyperparameters" in location:
            location = location[: location.index("hyperparameters") + 2]
        key = ".".join(location) or "the whole file"
        if key in seen:
            continue
        seen.add(key)
        match problem["type"]:
            case "extra_forbidden":
                allowed = list(_TABLES.get(location[0], Manifest).model_fields)
                yield (
                    f"{key}: unknown key{did_you_mean(location[-1], allowed, '; ')} "
                    f"(allowed: {', '.join(allowed)}); "
                    "the method's own settings belong under [hyperparameters]"
                )
            case "missing":
                yield f"{key}: is missing"
            case _ if "hyperparameters" in location[:-1]:
                yield f"{key}: {_wrong_hyperparameter(location[-1], _at(location, content))}"
            case "value_error":
                yield f"{key}: {problem['msg'].removeprefix('Value error, ')}"
            case _ if location[0] == "libraries" and len(location) > 1:
                yield (
                    f"{key}: {str(problem['input'])[:60]!r} is not the name of a distribution; "
                    'write names only, without versions, such as "scikit-learn"'
                )
            case _:
                yield f"{key}: {problem['msg']}, not {str(problem['input'])[:60]!r}"


def _at(location: list[str], content: dict[str, Any]) -> object:
    """Return the value at a location of a manifest."""
    value: Any = content
    for part in location:
        value = value[part]
    return value


def _wrong_hyperparameter(name: str, value: object) -> str:
    """Say why a hyperparameter is not allowed, and what to write instead."""
    if isinstance(value, dict):
        inner = next(iter(value), "name")
        return f"is a table; write its values one by one, such as `{name}_{inner} = …`"
    if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
        return "is a list of lists or tables; write a flat list, or several hyperparameters"
    return (
        "a hyperparameter needs a Python name, and must be a boolean, a number, a string of at most "
        "1,000 characters, or a list of up to 1,000 of these; write a date in quotes"
    )
