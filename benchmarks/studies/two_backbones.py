"""Does a method do better on one backbone than on another, and do the two know different things?

    python -m benchmarks.studies.two_backbones BACKBONE OTHER [--records DIR] [--write]

It reads the records of the same tasks, targets and seeds on both backbones. For each method it compares
d_a, and combines both detectors' scores in a logistic regression: what the combination gains over one
detector is what the other one knows in addition. `--write` writes the table in docs/language.md.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate

from attnbench.errors import AttnbenchError
from attnbench.records.integrity import Responses, responses_by_target
from attnbench.records.record import Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.statistics.consistency import consistency
from attnbench.statistics.curves import Estimate, mean_estimate
from attnbench.statistics.detection import detect
from benchmarks.studies.pages import DOCS, write_block

PAGE = DOCS / "language.md"
_FOLDS = 5
# What both records have to have in common: submission, task, track and seed.
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Comparison:
    """A method on two backbones, means over targets with 95 % intervals.

    Attributes:
        first, second: d_a on each backbone.
        difference: d_a on the second minus d_a on the first.
        added_by_second: d_a of both detectors combined, minus d_a of the first.
        added_by_first: d_a of both detectors combined, minus d_a of the second.
        kappa: error consistency of the two detectors on images with the target; None if it is
            undefined for all targets.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    added_by_second: Estimate
    added_by_first: Estimate
    kappa: Estimate | None


def combined_scores(
    scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return scores that combine those of several detectors, each fitted on other images.

    Log-odds of a logistic regression on the standardised scores, by five-fold cross-validation.

    Args:
        scores: `[n, detectors]`.
        present: whether each image has the target, bool `[n]`.
    """
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    log_odds: NDArray[np.float64] = cross_val_predict(
        model, scores, present, cv=folds, method="decision_function"
    )
    return log_odds


def compare(first: Mapping[str, Responses], second: Mapping[str, Responses]) -> Comparison:
    """Compare a method's scores on two backbones.

    Args:
        first, second: its responses by target. The test images of a target are the same in both.

    Raises:
        AttnbenchError: if targets or test images differ.
    """
    if first.keys() != second.keys():
        raise AttnbenchError("the records have different targets")
    rows: list[tuple[float, float, float]] = []
    kappas: list[float] = []
    for target, one in first.items():
        other, present = second[target], one.present
        if not np.array_equal(present, other.present):
            raise AttnbenchError(f"the test images of {target} differ")
        scores = np.stack([one.scores, other.scores], axis=1).astype(np.float64)
        d_a = [
            detect(column, present).d_a for column in (*scores.T, combined_scores(scores, present))
        ]
        rows.append((d_a[0], d_a[1], d_a[2]))
        decisions = scores[present] > 0
        kappa = consistency(decisions[:, 0], decisions[:, 1], replicates=1).kappa
        if kappa is not None:
            kappas.append(kappa)
    on_first, on_second, combined = np.array(rows).T
    return Comparison(
        first=mean_estimate(on_first),
        second=mean_estimate(on_second),
        difference=mean_estimate(on_second - on_first),
        added_by_second=mean_estimate(combined - on_first),
        added_by_first=mean_estimate(combined - on_second),
        kappa=mean_estimate(np.array(kappas)) if kappas else None,
    )


def pairs(
    folder: Path, backbones: Sequence[str]
) -> Iterator[tuple[Key, list[dict[str, Responses]]]]:
    """Yield what each method has on both backbones, and its responses on each.

    Raises:
        AttnbenchError: if a record's scores cannot be read.
    """
    found: dict[Key, dict[str, tuple[Path, Record]]] = defaultdict(dict)
    for path, record in RecordStore(folder).load_all()[0]:
        identity = record.identity
        if identity.backbone in backbones and record.status == "ok":
            key = identity.submission, identity.task, identity.track, identity.seed
            found[key][identity.backbone] = path, record
    for key, by_backbone in sorted(found.items()):
        if len(by_backbone) == len(backbones):
            yield key, [_responses(*by_backbone[name]) for name in backbones]


def _responses(path: Path, record: Record) -> dict[str, Responses]:
    try:
        return responses_by_target(read_scores(path, record))
    except ValueError as error:
        raise AttnbenchError(f"{path}: {error}") from None


def table_of(folder: Path, backbones: Sequence[str]) -> str:
    """Return the comparison of all methods that have records on both backbones, as Markdown.

    Raises:
        AttnbenchError: if there is none, or records do not fit together.
    """
    rows = []
    for (submission, task, track, seed), responses in pairs(folder, backbones):
        found = compare(*responses)
        name = f"{task}, {track}" + (f", seed {seed}" if seed else "")
        rows.append(
            [
                name,
                f"`{submission}`",
                f"{found.first.value:.2f}",
                f"{found.second.value:.2f}",
                *(
                    _with_interval(each)
                    for each in (found.difference, found.added_by_second, found.added_by_first)
                ),
                "undefined" if found.kappa is None else f"{found.kappa.value:.2f}",
            ]
        )
    if not rows:
        raise AttnbenchError(f"{folder} has no method with records on {' and '.join(backbones)}")
    first, second = backbones
    heads = ["task", "method", "d_a, first", "d_a, second", "second − first"]
    heads += ["second adds to first", "first adds to second", "κ"]
    return f"First: `{first}`. Second: `{second}`.\n\n" + tabulate(rows, heads, "github") + "\n"


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"


def main() -> None:
    """Print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("backbones", nargs=2, metavar="BACKBONE")
    parser.add_argument("--records", type=Path, default=Path("records"), help="default: records")
    parser.add_argument("--write", action="store_true", help="write the table in docs/language.md")
    options = parser.parse_args()
    table = table_of(options.records, options.backbones)
    print(table)
    if options.write:
        name = " ".join(options.backbones)
        write_block(PAGE, name, table)


if __name__ == "__main__":
    main()
