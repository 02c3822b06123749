"""Detectors beside people who answered the same pictures.

This is a matter of records and trials, after judging. A record holds a score for each target and image,
and the image's name ends in the name of the picture's file. A trial names the same file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.records.scores import as_array
from attnbench.records.trials import Trials
from attnbench.statistics.consistency import Bools, Floats
from attnbench.statistics.people_consistency import MeanKappa, people_consistency
from attnbench.statistics.people_detection import PeopleDetection, people_detection
from attnbench.statistics.shape_bias import ShapeBias, shape_bias

# The name of a cue-conflict picture: shape and texture, each with the number of its source.
_CUE_CONFLICT = re.compile(r"([a-z]+)\d+-([a-z]+)\d+\.\w+")


@dataclass(frozen=True)
class ScoredImages:
    """A detector's scores, n in all, one for each target and test image of one or several seeds.

    Attributes:
        targets: `[n]`, the name of the target.
        files: `[n]`, the name of the picture's file.
        present: bool `[n]`, whether the target is in the picture.
        scores: float `[n]`; above 0 means "present".
    """

    targets: NDArray[np.str_]
    files: NDArray[np.str_]
    present: Bools
    scores: Floats

    @classmethod
    def of(cls, tables: Sequence[pa.Table]) -> ScoredImages:
        """Return the scores in tables, see `attnbench.records.scores.read_scores`.

        They are ordered by target and image, so that those of different records correspond.
        """
        ordered = [
            table.sort_by([("target", "ascending"), ("image", "ascending")]) for table in tables
        ]
        names = [name for table in ordered for name in table["image"].to_pylist()]
        return cls(
            targets=np.array([name for table in ordered for name in table["target"].to_pylist()]),
            files=np.array([name.rpartition("/")[2] for name in names]),
            present=np.concatenate([as_array(table["present"]) for table in ordered]),
            scores=np.concatenate([as_array(table["score"]) for table in ordered]).astype(float),
        )

    def has_images_of(self, other: ScoredImages) -> bool:
        """Return whether both have scores of the same targets and images."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("targets", "files", "present")
        )


@dataclass(frozen=True)
class Beside:
    """An observer beside people: a detector, or people themselves.

    Attributes:
        present, absent: mean error consistency with people, on images with the target and on images
            without it. For people, the mean over pairs of them.
        bias: the shape bias; None if the pictures have no conflicting cues.
    """

    present: MeanKappa
    absent: MeanKappa
    bias: ShapeBias | None


@dataclass(frozen=True)
class DetectorBesidePeople(Beside):
    """A detector beside people.

    Attributes:
        matched: the same with another threshold for each target, at which the detector calls as many
            images present as a person does on average. There, a difference in criterion cannot hide
            that two observers find the same images hard.
        by_person: float `[2, m]`, kappa with each person on present and absent trials.
    """

    matched: Beside
    by_person: Floats


@dataclass(frozen=True)
class BesidePeople:
    """Detectors and people on the same pictures.

    Attributes:
        source: the file of trials.
        presentation_ms: how long the pictures were shown; None if the trials do not tell.
        people: the names of the people.
        pictures, targets: the numbers of these.
        detection: people's sensitivity and criterion.
        own: people beside people.
        detectors: by name.
    """

    source: str
    presentation_ms: float | None
    people: tuple[str, ...]
    pictures: int
    targets: int
    detection: PeopleDetection
    own: Beside
    detectors: Mapping[str, DetectorBesidePeople]


def beside_people(
    detectors: Mapping[str, ScoredImages], trials: Trials, *, replicates: int = 1000
) -> list[BesidePeople]:
    """Compare detectors with people, for each time that the pictures were presented.

    Args:
        detectors: scores of the same images, by the detector's name; at least one.
        trials: of these pictures, or some of them. Only pictures with a trial count.
        replicates: number of bootstrap replicates.

    Returns:
        One comparison, or one for each presentation time, ascending.

    Raises:
        AttnbenchError: if no picture has a trial, the detectors have scores of different images, or a
            person has answered no picture with a target, or none without it.
    """
    scored = next(iter(detectors.values()))
    if any(not scored.has_images_of(other) for other in detectors.values()):
        raise AttnbenchError(
            f"the records of {', '.join(detectors)} have different test images or seeds"
        )
    own = trials.about(sorted(set(scored.files.tolist())))
    if not len(own.person):
        raise AttnbenchError(
            f"{trials.source} has no trial of a picture of the records, such as {scored.files[0]}"
        )
    times = own.presentations
    parts = [own.where(own.presentation_ms == time) for time in times] if len(times) > 1 else [own]
    return [_compare(detectors, part, replicates) for part in parts]


def _compare(
    detectors: Mapping[str, ScoredImages], trials: Trials, replicates: int
) -> BesidePeople:
    answers = trials.answers()
    took_part = (answers != "").any(axis=1)
    scored = next(iter(detectors.values()))
    all_columns = np.searchsorted(trials.pictures, scored.files)
    used = (answers != "").any(axis=0)[all_columns]
    targets, present, columns = scored.targets[used], scored.present[used], all_columns[used]
    given = answers[took_part][:, columns]
    known, decisions = given != "", given == targets
    target_names, target_numbers = np.unique(targets, return_inverse=True)
    scores = np.array([one.scores[used] for one in detectors.values()])
    textures = _textures(scored.files[used])

    def compare(of_detectors: Bools) -> tuple[list[Beside], Beside, Floats]:
        """Return detectors and people beside people, and kappa by person `[k, 2, m]`."""
        by_class = [
            people_consistency(
                of_detectors[:, trials_of_class],
                decisions[:, trials_of_class],
                columns[trials_of_class],
                known=known[:, trials_of_class],
                replicates=replicates,
            )
            for trials_of_class in (present, ~present)
        ]
        kappas = [(*one.detectors, one.people) for one in by_class]
        biases: list[ShapeBias | None] = [None] * len(kappas[0])
        if textures is not None:
            # For detectors and then for people: decisions, and which of them there are.
            observers = [(row[None], np.ones_like(row[None])) for row in of_detectors]
            biases = [
                shape_bias(
                    rows,
                    present,
                    textures == targets,
                    columns,
                    known=answered,
                    replicates=replicates,
                )
                for rows, answered in [*observers, (decisions, known)]
            ]
        sides = [Beside(*group) for group in zip(*kappas, biases, strict=True)]
        return sides[:-1], sides[-1], np.stack([one.by_person for one in by_class], axis=1)

    try:
        detection = people_detection(decisions, present, target_numbers, known=known)
        sides, own, by_person = compare(scores > 0)
        matched, _, _ = compare(_at_rate_of(decisions, known, scores, target_numbers))
    except ValueError as error:
        raise AttnbenchError(f"{trials.source}: {error}") from None
    times = trials.presentations
    return BesidePeople(
        source=trials.source,
        presentation_ms=times[0] if times else None,
        people=tuple(np.array(trials.people)[took_part].tolist()),
        pictures=len(np.unique(columns)),
        targets=len(target_names),
        detection=detection,
        own=own,
        detectors={
            name: DetectorBesidePeople(side.present, side.absent, side.bias, other, kappas)
            for name, side, other, kappas in zip(detectors, sides, matched, by_person, strict=True)
        },
    )


def _textures(files: NDArray[np.str_]) -> NDArray[np.str_] | None:
    """Return the category of each picture's texture, by its name; None if not all have such a name."""
    matches = [_CUE_CONFLICT.fullmatch(file) for file in files.tolist()]
    found = [match[2] for match in matches if match is not None]
    return np.array(found) if len(found) == len(files) else None


def _at_rate_of(
    decisions: Bools, known: Bools, scores: Floats, targets: NDArray[np.int64]
) -> Bools:
    """Return decisions of k detectors, bool `[k, n]`, that call as many images present as people do.

    Args:
        decisions, known: of people, bool `[m, n]`.
        scores: float `[k, n]`.
        targets: int `[n]`. Each target has a threshold of its own.
    """
    matched = np.zeros(scores.shape, bool)
    for target in range(int(targets.max()) + 1):
        rows = np.flatnonzero(targets == target)
        rate = (decisions & known)[:, rows].sum() / known[:, rows].sum()
        count = round(rate * len(rows))
        highest = np.argsort(-scores[:, rows], axis=1, kind="stable")[:, :count]
        for detector, positions in enumerate(highest):
            matched[detector, rows[positions]] = True
    return matched
