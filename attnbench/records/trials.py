"""People's answers to pictures: a CSV with a row per trial, in the form of model-vs-human.

    subj,session,trial,rt,object_response,category,condition,imagename
    subject-01,1,1,0.869,knife,oven,0,0001_edg_s01_0_oven_00_oven10.png

`imagename` is the picture's name, or ends in `_` and the picture's name. `object_response` is one of
the sixteen categories, or `na` if the person did not answer in time. `rt` is in seconds.
`presentation_ms` says how long the picture was shown, if that varied. Only `subj`,
`object_response`, `category` and `imagename` are required.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.files import read_file
from attnbench.text import did_you_mean, printable
from attnbench.vocabulary import SIXTEEN_CATEGORIES

REQUIRED = ("subj", "object_response", "category", "imagename")
OPTIONAL = ("session", "trial", "rt", "condition", "presentation_ms")
NO_ANSWER = "na"
_MAX_BYTES = 1 << 28

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Trials:
    """Trials of several people, n in all.

    Attributes:
        source: the file, for messages.
        people: the names of the people.
        pictures: the names of the pictures, as the file has them.
        person, picture: int64 `[n]`, indices into these.
        answer: `[n]`, the category that the person chose, or `na`.
        category: `[n]`, the category that is shown.
        seconds: float `[n]`, the reaction time; NaN where it is not known.
        presentation_ms: float `[n]`, how long the picture was shown; NaN where it is not known.
    """

    source: str
    people: tuple[str, ...]
    pictures: tuple[str, ...]
    person: Ints
    picture: Ints
    answer: NDArray[np.str_]
    category: NDArray[np.str_]
    seconds: Floats
    presentation_ms: Floats

    @property
    def presentations(self) -> tuple[float, ...]:
        """The presentation times that occur, ascending; empty if the file does not tell them."""
        return tuple(np.unique(self.presentation_ms[~np.isnan(self.presentation_ms)]).tolist())

    def where(self, chosen: Bools) -> Trials:
        """Return some of the trials, bool `[n]`, with the same people and pictures."""
        columns = ("person", "picture", "answer", "category", "seconds", "presentation_ms")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})

    def fast(self) -> Bools:
        """Return which answers are fast, bool `[n]`, as far as the person and the picture allow.

        A fast answer is below the median of the same picture, once each person's mean has been
        subtracted from the logarithm of their reaction times. So fast and slow answers are of the
        same people and the same pictures. Trials without a reaction time are not fast. `pictures`
        must be those of `about`.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log(self.seconds)
        logs[~np.isfinite(logs)] = np.nan
        for person in range(len(self.people)):
            own = self.person == person
            if np.isfinite(logs[own]).any():
                logs[own] -= np.nanmean(logs[own])
        fast = np.zeros(len(logs), bool)
        order = np.argsort(self.picture, kind="stable")
        starts = np.flatnonzero(np.diff(self.picture[order], prepend=-1))
        for rows in np.split(order, starts[1:]):
            if np.isfinite(logs[rows]).any():
                fast[rows] = logs[rows] < np.nanmedian(logs[rows])
        return fast

    def about(self, names: Sequence[str]) -> Trials:
        """Return the trials of some pictures.

        Args:
            names: file names. A trial is of the picture whose name its `imagename` is, or ends in.

        Returns:
            Trials whose `pictures` are these names, in this order.
        """
        index = {name: number for number, name in enumerate(names)}
        places = np.array([_place(picture, index) for picture in self.pictures], np.int64)
        found = replace(self, pictures=tuple(names), picture=places[self.picture])
        return found.where(found.picture >= 0)

    def answers(self) -> NDArray[np.str_]:
        """Return each person's answer to each picture, `[people, pictures]`.

        Returns:
            The category, `na`, or an empty text where a person has no trial of the picture.

        Raises:
            AttnbenchError: if a person has several trials of a picture.
        """
        cells = self.person * len(self.pictures) + self.picture
        found, counts = np.unique(cells, return_counts=True)
        if (counts > 1).any():
            person, picture = divmod(int(found[counts > 1][0]), len(self.pictures))
            raise AttnbenchError(
                f"{self.source}: {printable(self.people[person], 60)} has several trials of "
                f"{printable(self.pictures[picture], 100)}; a person may answer a picture once, or "
                "once for each presentation_ms"
            )
        answers = np.full((len(self.people), len(self.pictures)), "", dtype="<U16")
        answers[self.person, self.picture] = self.answer
        return answers


def _place(picture: str, index: Mapping[str, int]) -> int:
    """Return the index of the picture that an `imagename` means, or -1."""
    name = picture
    while name not in index:
        _, underscore, name = name.partition("_")
        if not underscore:
            return -1
    return index[name]


def read_trials(path: Path) -> Trials:
    """Read and check a file of trials.

    Args:
        path: the CSV, in UTF-8.

    Raises:
        AttnbenchError: if it cannot be read, lacks a column, has an unknown one, or a value is not
            valid. The message names the line and what may stand there.
    """
    try:
        text = read_file(path, _MAX_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _check_columns(path, reader.fieldnames or ())
        rows = list(_rows(path, reader))
    except OSError as error:
        raise AttnbenchError(f"cannot read the trials {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AttnbenchError(f"{path} is not a text file in UTF-8") from None
    except csv.Error as error:
        raise AttnbenchError(f"{path} cannot be read as a CSV: {error}") from None
    if not rows:
        raise AttnbenchError(f"{path} has no trials")
    people = tuple(sorted({row.person for row in rows}))
    pictures = tuple(sorted({row.picture for row in rows}))
    person_index = {name: number for number, name in enumerate(people)}
    picture_index = {name: number for number, name in enumerate(pictures)}
    return Trials(
        source=str(path),
        people=people,
        pictures=pictures,
        person=np.array([person_index[row.person] for row in rows], np.int64),
        picture=np.array([picture_index[row.picture] for row in rows], np.int64),
        answer=np.array([row.answer for row in rows]),
        category=np.array([row.category for row in rows]),
        seconds=np.array([row.seconds for row in rows]),
        presentation_ms=np.array([row.presentation_ms for row in rows]),
    )


@dataclass(frozen=True)
class _Row:
    person: str
    picture: str
    answer: str
    category: str
    seconds: float
    presentation_ms: float


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    if missing := [name for name in REQUIRED if name not in columns]:
        raise AttnbenchError(
            f"{path} has no column {missing[0]!r}; trials need {', '.join(REQUIRED)}, and may have "
            f"{', '.join(OPTIONAL)}"
        )
    known = (*REQUIRED, *OPTIONAL)
    if unknown := [name for name in columns if name not in known]:
        raise AttnbenchError(
            f"{path} has an unknown column {printable(unknown[0], 60)!r}"
            f"{did_you_mean(unknown[0], known, '; ')} (allowed: {', '.join(known)})"
        )
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise AttnbenchError(f"{path} has the column {twice[0]!r} twice")


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[_Row]:
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise AttnbenchError(f"{where}: the number of values is not that of the columns")
        for name in ("subj", "imagename"):
            if not row[name].strip():
                raise AttnbenchError(f"{where}: {name} is empty")
        category = _category(row["category"], where, "category", ())
        answer = _category(row["object_response"], where, "object_response", (NO_ANSWER,))
        yield _Row(
            person=row["subj"].strip(),
            picture=row["imagename"].strip().rpartition("/")[2],
            answer=answer,
            category=category,
            seconds=_positive(row.get("rt", ""), where, "rt", "seconds"),
            presentation_ms=_positive(
                row.get("presentation_ms", ""), where, "presentation_ms", "milliseconds"
            ),
        )


def _category(text: str, where: str, column: str, others: Sequence[str]) -> str:
    value = text.strip()
    if value not in SIXTEEN_CATEGORIES and value not in others:
        allowed = (*SIXTEEN_CATEGORIES, *others)
        raise AttnbenchError(
            f"{where}: {column} is {printable(value, 60)!r}{did_you_mean(value, allowed, '; ')} "
            f"(allowed: {', '.join(allowed)})"
        )
    return value


def _positive(text: str, where: str, column: str, unit: str) -> float:
    """Return a positive number, or NaN for an empty value, `na` or `nan`."""
    value = text.strip()
    if value.lower() in ("", "na", "nan"):
        return float("nan")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise AttnbenchError(
            f"{where}: {column} is {printable(value, 60)!r}; it must be a positive number of {unit}, "
            "or empty"
        )
    return number
