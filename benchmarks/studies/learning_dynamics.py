"""Do methods of re-purposing generalise at once, as people do?

    python -m benchmarks.studies.learning_dynamics --data DATA [--write]

Huber, Mast & Wichmann (2024) had people and networks learn three unknown categories over six epochs.
In each epoch all 36 training pictures came once, then one of six test sets. The trials give the
accuracy on both, and the difference is the generalisation lag. Here the same pictures are learned by
submissions (tasks/learning-dynamics.toml), whose budget takes the part of the epochs.

Answers and detectors are put on one scale: the mean of hit rate and correct rejection rate for each
category as the target, in which chance is 0.5. A person's or network's answer is "present" if it names
the target. Unlike d', this measure has no bias however few pictures there are. Networks and people were
tested on one set after each epoch; submissions are tested on all six sets at every budget.

`--write` writes the table in docs/what-adaptation-learns.md, and the figure beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from attnbench.commands.curve import CURVES
from attnbench.commands.evaluate import run_evaluation
from attnbench.leaderboard.plot_style import (
    COLOURS,
    FAINT,
    INK,
    Plot,
    new_figure,
    styled,
    svg,
)
from attnbench.records.record import EpisodeResult, Record
from attnbench.records.store import RecordStore
from attnbench.statistics.curves import (
    Estimate,
    mean_estimate,
    mean_height,
    needed_for_share,
)
from attnbench.statistics.intervals import Floats
from attnbench.submission import load_submission
from benchmarks.studies.pages import DOCS, write_block

EPOCHS = (1, 2, 3, 4, 5, 6)
CHANCE = 0.5
TASK = "learning-dynamics"
# The learning rate of full fine-tuning for new targets was chosen on drawings. On these photographs it
# destroys the network, so the method is shown at a tenth of it, too.
SLOW = "full_finetune, rate / 10"


@dataclass(frozen=True)
class Method:
    """A submission of the study.

    Attributes:
        submission: its name.
        has_budget: whether its budget takes the part of the epochs. `prototype` has none: it needs
            each picture once.
        settings: hyperparameters that differ from the manifest's.
    """

    submission: str
    has_budget: bool = True
    settings: Mapping[str, float] = field(default_factory=dict)


METHODS = {
    "full_finetune": Method("full_finetune"),
    SLOW: Method("full_finetune", settings={"new_target_rate": 0.00005}),
    "attention": Method("attention"),
    "last_layer": Method("last_layer"),
    "prototype": Method("prototype", has_budget=False),
}
PEOPLE = "human"

PAGE, FIGURE = DOCS / "what-adaptation-learns.md", DOCS / "learning-dynamics.svg"


@dataclass(frozen=True)
class Learner:
    """Accuracy of people, of runs of a network, or of a submission's detectors.

    Attributes:
        name: the name.
        train, test: float `[n, epochs]`, for each of n people, runs or targets.
    """

    name: str
    train: Floats
    test: Floats

    @property
    def lag(self) -> Estimate:
        """The generalisation lag: train minus test, the mean over epochs."""
        return mean_estimate((self.train - self.test).mean(axis=1))

    @property
    def area(self) -> Estimate:
        """Data efficiency: the accuracy on test pictures, the mean over log2 of the epochs."""
        epochs = np.arange(1.0, 1 + self.test.shape[1])
        return mean_estimate(mean_height(epochs, self.test))

    @property
    def needed(self) -> float:
        """The epoch from which the mean accuracy above chance stays at 90 % of its best."""
        epochs = np.arange(1.0, 1 + self.test.shape[1])
        return needed_for_share(epochs, self.test.mean(axis=0) - CHANCE)


def learners_in(trials: pd.DataFrame) -> Iterator[Learner]:
    """Yield people and networks from their trials.

    Args:
        trials: the columns `observer`, `run`, `epoch`, `phase` (train, test), `ground_truth` and
            `prediction`.
    """
    categories = sorted(trials["ground_truth"].unique())
    keys = ["observer", "run", "phase", "epoch"]
    accuracies = []
    for target in categories:
        is_target = trials["ground_truth"] == target
        correct = (trials["prediction"] == target) == is_target
        rates = correct.groupby(
            [*(trials[key] for key in keys), is_target.rename("present")]
        ).mean()
        accuracies.append(rates.unstack("present").mean(axis=1))
    mean = pd.concat(accuracies, axis=1).mean(axis=1)
    for observer, of_observer in mean.groupby("observer"):
        phases = [
            of_observer.xs(phase, level="phase").unstack("epoch") for phase in ("train", "test")
        ]
        yield Learner(str(observer), *(phase.to_numpy(float) for phase in phases))


def learner_of(name: str, records: Sequence[Record], parameter: str | None) -> Learner:
    """Return a submission from the records of its learning curve.

    Args:
        name: what to call it.
        records: of all budgets, tested on pictures adapted on and on others.
        parameter: the hyperparameter that is the budget. None if it has none, so that each record
            stands for all epochs.
    """
    accuracies: dict[tuple[bool, int], dict[str, float]] = {}
    for record in records:
        value = 0
        if parameter is not None:
            assert record.overrides is not None
            value = int(record.overrides.hyperparameters[parameter])
        accuracies[record.identity.seen, value] = {e.target: _accuracy(e) for e in record.episodes}
    values = sorted({value for _, value in accuracies})
    targets = sorted(accuracies[True, values[0]])

    def table(seen: bool) -> Floats:
        return np.array([[accuracies[seen, value][t] for value in values] for t in targets])

    return Learner(name, table(True), table(False))


def _accuracy(episode: EpisodeResult) -> float:
    assert episode.measures is not None
    counts = episode.measures.counts
    hit_rate = counts.hits / counts.positives
    return (hit_rate + 1 - counts.false_alarms / counts.negatives) / 2


def measure(name: str, data: Path, records: Path) -> Learner:
    """Run a method with each budget, or use the records of an earlier run."""
    method = METHODS[name]
    settings: dict[str, Any] = dict(method.settings)
    budget = load_submission(method.submission).manifest.budget
    parameter = None
    if method.has_budget:
        assert budget is not None
        parameter = budget.parameter
        settings[parameter] = list(EPOCHS)
    evaluation = run_evaluation(
        method.submission,
        settings=settings,
        sizes=["all"],
        tasks=TASK,
        data=data,
        records=records / CURVES,
    )
    paths = [Path(str(row["record"])) for row in evaluation.rows]
    return learner_of(name, [RecordStore(records).read(path) for path in paths], parameter)


def table(learners: Sequence[Learner]) -> str:
    """Return the table in Markdown."""

    def text(estimate: Estimate) -> str:
        return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"

    rows = [
        (
            learner.name,
            len(learner.test),
            f"{learner.train[:, 0].mean():.2f}",
            f"{learner.train[:, -1].mean():.2f}",
            f"{learner.test[:, 0].mean():.2f}",
            f"{learner.test[:, -1].mean():.2f}",
            text(learner.area),
            f"{learner.needed:.1f}",
            text(learner.lag),
        )
        for learner in learners
    ]
    heads = ["", "n", "train 1", "train 6", "test 1", "test 6", "area", "90 % from", "lag"]
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True) + "\n"


def figure(learners: Sequence[Learner]) -> Plot:
    """Return the figure: accuracy on test pictures, and the lag, by epoch."""
    with styled():
        drawn = new_figure(9, 4.4)
        accuracy, lag = drawn.subplots(1, 2)
        for number, learner in enumerate(learners):
            colour = INK if learner.name == PEOPLE else COLOURS[number % len(COLOURS)]
            is_network = learner.name not in METHODS and learner.name != PEOPLE
            style = {"color": FAINT if is_network else colour, "linewidth": 1 if is_network else 2}
            epochs = np.arange(1, 1 + learner.test.shape[1])
            label = "networks" if is_network else learner.name
            for axes, values in ((accuracy, learner.test), (lag, learner.train - learner.test)):
                axes.plot(epochs, values.mean(axis=0), marker="o", ms=3, label=label, **style)
        accuracy.axhline(CHANCE, color=INK, linewidth=0.8, linestyle=":")
        lag.axhline(0, color=INK, linewidth=0.8)
        accuracy.set_ylabel("accuracy on test pictures")
        lag.set_ylabel("generalisation lag: train - test")
        for axes in (accuracy, lag):
            axes.set_xlabel("epoch, or budget")
            axes.grid(True)
        handles, labels = accuracy.get_legend_handles_labels()
        unique = dict(zip(map(str, labels), handles, strict=True))
        drawn.legend(handles=list(unique.values()), loc="upper center", ncols=4, fontsize=9)
        drawn.tight_layout(rect=(0, 0, 1, 0.89))
    description = (
        "Accuracy on test pictures and generalisation lag of people, networks and submissions"
    )
    return Plot("learning-dynamics", "Learning dynamics", description, drawn)


def main() -> None:
    """Read the trials, measure the submissions, and write the table and the figure."""
    parser = argparse.ArgumentParser(description="learning curves beside those of people")
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--records", type=Path, default=Path("records"), help="default: records")
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all")
    parser.add_argument(
        "--write", action="store_true", help="write the table and the figure in docs"
    )
    options = parser.parse_args()
    trials = pd.read_csv(options.data / "learning-dynamics" / "trials.csv.gz")
    learners = sorted(learners_in(trials), key=lambda learner: learner.name != PEOPLE)
    for name in options.method or METHODS:
        learners.append(measure(name, options.data, options.records))
    print(table(learners))
    if options.write:
        plot = figure(learners)
        FIGURE.write_bytes(svg(plot))
        text = f"![{plot.description}]({FIGURE.name})\n\n{table(learners)}"
        write_block(PAGE, "learning dynamics", text)


if __name__ == "__main__":
    main()
