"""Submissions with overridden hyperparameters (`--set`): one for each combination of values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from attnbench.errors import AttnbenchError
from attnbench.manifest import BackboneSettings, Manifest
from attnbench.overrides import Overrides, Scalar, Settings, Value, toml_of
from attnbench.submission import Submission
from attnbench.text import did_you_mean, printable

_MAX_TITLE = 200


def sweep(submission: Submission, settings: Settings) -> list[Submission]:
    """Return a submission with other hyperparameters, once for each combination of values.

    Each has a name, a title and a hash of its own. It declares no number of parameters: its authors
    declared that of their own hyperparameters.

    Args:
        submission: the submission as its authors wrote it.
        settings: the values by name, or one value each. They apply to all backbones.

    Raises:
        AttnbenchError: if the submission has no such hyperparameter, or one of another type.
    """
    choices = {
        name: [_as_in_manifest(submission, name, value) for value in _values(given)]
        for name, given in sorted(settings.items())
    }
    combinations = itertools.product(*choices.values())
    variants = [
        _override(submission, dict(zip(choices, values, strict=True))) for values in combinations
    ]
    # A value may have been given twice, as 0.3 and 0.30.
    return list({variant.sha256: variant for variant in variants}.values())


def _values(given: Value | Iterable[Value]) -> list[Value]:
    if isinstance(given, bool | int | float | str):
        return [given]
    return list(given)


def _override(submission: Submission, values: dict[str, Value]) -> Submission:
    """Return the submission with these values, which the manifest's types allow."""
    if not values:
        return submission
    manifest = submission.manifest
    overrides = Overrides(
        submission=submission.name,
        hyperparameters={name: toml_of(value) for name, value in values.items()},
    )
    changes = {
        "name": overrides.name,
        "title": printable(f"{manifest.title} ({overrides})", _MAX_TITLE),
        "declared_parameters": None,
        "hyperparameters": {**manifest.hyperparameters, **values},
        "backbone": {
            backbone: {"hyperparameters": _without(own, values)}
            for backbone, own in manifest.backbone.items()
        },
    }
    try:
        changed = Manifest.model_validate(manifest.model_dump() | changes)
    except ValidationError as error:
        raise AttnbenchError(
            f"--set: {printable(overrides)} cannot be hyperparameters: {error.errors()[0]['msg']}"
        ) from None
    return replace(
        submission,
        manifest=changed,
        sha256=overrides.hash_with(submission.sha256),
        overrides=overrides,
    )


def _without(own: BackboneSettings, values: dict[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in own.hyperparameters.items() if name not in values}


def _as_in_manifest(submission: Submission, name: str, value: Value) -> Value:
    """Return a value in the type that it has in the manifest."""
    manifest = submission.manifest
    tables = [manifest.hyperparameters, *(b.hyperparameters for b in manifest.backbone.values())]
    written = [table[name] for table in tables if name in table]
    if not written:
        known = list(dict.fromkeys(itertools.chain.from_iterable(tables)))
        meant = did_you_mean(name, known, ": ")
        raise AttnbenchError(
            f"--set: {submission.name} has no hyperparameter {printable(name)!r}"
            f"{meant} (known: {', '.join(known)})"
            if known
            else f"--set: {submission.name} has no hyperparameters"
        )
    for like in written:
        if (converted := _converted(value, like)) is not None:
            return converted
    shown = printable(toml_of(value) if isinstance(value, Scalar) else repr(value), 60)
    advice = f"; quote it: --set '{name}=\"{shown}\"'" * isinstance(written[0], str)
    raise AttnbenchError(
        f"--set: {name} of {submission.name} is {_kind(written[0])}, such as "
        f"{toml_of(written[0])}, and cannot be {shown}{advice}"
    )


def _converted(value: Value, like: Value) -> Value | None:
    """Return a value in the type of another one, or None if it cannot have that type."""
    if isinstance(value, bool) or isinstance(like, bool):
        return value if type(value) is type(like) else None
    if isinstance(value, int) and abs(value) >= 2**63:
        return None  # TOML's integers have 64 bits
    if isinstance(value, str) or isinstance(like, str):
        return value if isinstance(value, str) and isinstance(like, str) else None
    if isinstance(like, float) and isinstance(value, int | float):
        return float(value)
    if isinstance(like, Sequence) and isinstance(value, Sequence):
        elements: list[Any] = [_converted(e, like[0]) if like else e for e in value]
        return None if None in elements else elements
    return value if isinstance(value, type(like)) else None


def _kind(value: Value) -> str:
    match value:
        case bool():
            return "true or false"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "text"
    return "a list"
