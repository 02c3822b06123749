"""Learning curves, assembled from the records of their points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, median

import numpy as np

from attnbench.errors import AttnbenchError
from attnbench.records.record import EpisodeResult, Record
from attnbench.statistics.curves import CurveSummary, summarise_curve
from attnbench.statistics.intervals import Floats

IMAGES = "images"
# The axis of a method without a budget, among others that have one: it is a single point.
NO_BUDGET = "no budget"
_MAX_REASONS = 3


@dataclass(frozen=True, order=True)
class CurveKey:
    """What a curve is of: a method on one task, track and backbone."""

    submission: str
    task: str
    track: str
    backbone: str


@dataclass(frozen=True)
class Curve:
    """The learning curve of one method in one setting.

    Attributes:
        key: what it is of.
        axis: what varies: "images", the number of positives, the hyperparameter of a budget, or
            "no budget".
        abscissa: its k values, ascending.
        targets: the n targets that have all points.
        d_a, d_prime, auc: float `[n, k]`, measures on held-out images, means over seeds.
        auc_seen: float `[n, k]`, the AUC on the images adapted on.
        passes: the median adaptation time at each point, in passes; None without uncontended times.
        contended_passes: the same of all times, also of those that other work made longer.
        failures: why some targets or points are missing, each reason once.
    """

    key: CurveKey
    axis: str
    abscissa: tuple[float, ...]
    targets: tuple[str, ...]
    d_a: Floats = field(repr=False)
    d_prime: Floats = field(repr=False)
    auc: Floats = field(repr=False)
    auc_seen: Floats = field(repr=False)
    passes: tuple[float | None, ...]
    contended_passes: tuple[float, ...]
    failures: tuple[str, ...]

    @property
    def lag(self) -> Floats:
        """The generalisation lag of each target at each point, in AUC, `[n, k]`."""
        return self.auc_seen - self.auc

    @cached_property
    def summary(self) -> CurveSummary:
        """What the curve comes to."""
        return summarise_curve(np.array(self.abscissa), self.d_a, self.lag)

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield a row for each point, with means over targets."""
        for number, value in enumerate(self.abscissa):
            yield {
                "submission": self.key.submission,
                "task": self.key.task,
                "track": self.key.track,
                "backbone": self.key.backbone,
                "axis": self.axis,
                "value": value,
                "targets": len(self.targets),
                "d_prime": float(self.d_prime[:, number].mean()),
                "d_a": float(self.d_a[:, number].mean()),
                "auc": float(self.auc[:, number].mean()),
                "auc_seen": float(self.auc_seen[:, number].mean()),
                "adaptation_passes": self.passes[number],
            }


# The ok episodes at one point of a curve: by whether the images were seen, and by target.
_Point = dict[tuple[bool, str], list[EpisodeResult]]


def curves_of(records: Sequence[Record], parameters: Mapping[str, str]) -> list[Curve]:
    """Return the curves that the records of points make.

    Args:
        records: of all points, on held-out and on seen images.
        parameters: by submission, the hyperparameter that its curve is along, or "no budget"; the
            number of images for other submissions.

    Raises:
        AttnbenchError: if a curve has no target with all points.
    """
    grouped: dict[CurveKey, list[Record]] = defaultdict(list)
    for record in records:
        identity = record.identity
        original = record.original_submission
        name = original if original in parameters else identity.submission
        key = CurveKey(name, identity.task, identity.track, identity.backbone)
        grouped[key].append(record)
    return [_curve(key, group, parameters.get(key.submission)) for key, group in grouped.items()]


def _curve(key: CurveKey, records: Sequence[Record], parameter: str | None) -> Curve:
    """Return the curve of one method in one setting."""
    points: dict[float, _Point] = defaultdict(lambda: defaultdict(list))
    failures: dict[str, None] = {}
    targets: dict[str, None] = {}
    for record in records:
        point = points[_value(record, parameter)]
        for episode in record.episodes:
            targets[episode.target] = None
            if episode.measures is not None:
                point[record.identity.seen, episode.target].append(episode)
            else:
                failures[episode.reason] = None
    # A method may refuse so few images that no target has the point.
    measured = {value: points[value] for value in sorted(points) if points[value]}
    complete = [
        target
        for target in targets
        if all((seen, target) in point for point in measured.values() for seen in (False, True))
    ]
    if not measured or not complete:
        reasons = "; ".join(list(failures)[:_MAX_REASONS])
        raise AttnbenchError(
            f"{key.submission} has no curve on {key.task}, as no target has all points: {reasons}"
        )
    columns = list(measured.values())
    return Curve(
        key=key,
        axis=parameter or IMAGES,
        abscissa=tuple(measured),
        targets=tuple(complete),
        d_a=_table(columns, complete, "d_a", seen=False),
        d_prime=_table(columns, complete, "d_prime", seen=False),
        auc=_table(columns, complete, "auc", seen=False),
        auc_seen=_table(columns, complete, "auc", seen=True),
        passes=tuple(_median_passes(point, complete, contended=False) for point in columns),
        contended_passes=tuple(
            _median_passes(point, complete, contended=True) or float("nan") for point in columns
        ),
        failures=tuple(failures),
    )


def _value(record: Record, parameter: str | None) -> float:
    """Return where a record's point is on the axis."""
    if parameter is None:
        assert record.identity.images is not None
        return record.identity.images
    if parameter == NO_BUDGET:
        return 1.0
    assert record.overrides is not None
    return float(record.overrides.hyperparameters[parameter])


def _table(points: Sequence[_Point], targets: Sequence[str], measure: str, *, seen: bool) -> Floats:
    """Return a measure of each target at each point, the mean over seeds, `[n, k]`."""
    return np.array(
        [
            [fmean(getattr(e.measures, measure) for e in point[seen, target]) for point in points]
            for target in targets
        ]
    )


def _median_passes(point: _Point, targets: Sequence[str], *, contended: bool) -> float | None:
    costs = [episode.cost for target in targets for episode in point[False, target]]
    times = [
        cost.adaptation_seconds / cost.pass_seconds
        for cost in costs
        if cost is not None and (contended or not cost.contended)
    ]
    return median(times) if times else None
