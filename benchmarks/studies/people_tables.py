"""The tables and sentences of docs/people.md: functions of comparisons with people, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from attnbench.commands.compare_people import SettingBesidePeople
from attnbench.leaderboard.people import Beside, BesidePeople
from attnbench.statistics.intervals import Floats, Interval, percentile_interval
from attnbench.statistics.people_consistency import MeanKappa, people_consistency
from attnbench.statistics.shape_bias import ShapeBias, shape_bias
from attnbench.vocabulary import PEOPLE, SIXTEEN_CATEGORIES

Texts = NDArray[np.str_]
OWN, MATCHED = "own threshold", "people's rate"


@dataclass(frozen=True)
class Joint:
    """The mean of kappa over kinds of pictures, or a difference of two such means.

    Attributes:
        value: the mean.
        replicates: float `[r]`, its bootstrap over pictures and people.
    """

    value: float
    replicates: Floats

    @property
    def interval(self) -> Interval:
        """The 95 % interval."""
        return percentile_interval(self.replicates[~np.isnan(self.replicates)])

    def __sub__(self, other: Joint) -> Joint:
        return Joint(self.value - other.value, self.replicates - other.replicates)

    def text(self, form: str = "+.3f") -> str:
        """Return the value and its interval as text."""
        low, high = self.interval
        return f"{self.value:{form}} [{low:{form}}, {high:{form}}]"


def joint(kappas: Sequence[MeanKappa]) -> Joint:
    """Return the mean of kappas on different kinds of pictures, each answered by other people."""
    # The same order for all methods keeps their replicates paired, and makes kinds independent.
    shuffled = [
        np.random.default_rng(number).permutation(kappa.replicates)
        for number, kappa in enumerate(kappas)
    ]
    values = [np.nan if kappa.value is None else kappa.value for kappa in kappas]
    return Joint(float(np.mean(values)), np.mean(shuffled, axis=0))


def kappa_of(name: str, rate: str, trials: str) -> Callable[[BesidePeople], MeanKappa]:
    """Return a function that returns a method's kappa, given a comparison.

    Args:
        name: the method.
        rate: `OWN` or `MATCHED`.
        trials: `present` or `absent`.
    """

    def kappa(comparison: BesidePeople) -> MeanKappa:
        detector = comparison.detectors[name]
        side: Beside = detector if rate == OWN else detector.matched
        return side.present if trials == "present" else side.absent

    return kappa


def change(
    comparisons: Sequence[BesidePeople], first: str, second: str, rate: str, trials: str
) -> Joint:
    """Return the difference in kappa between two methods, first - second, joint over kinds."""
    one, other = (
        joint([kappa_of(name, rate, trials)(each) for each in comparisons])
        for name in (first, second)
    )
    return one - other


def people_row(
    kind: str, answers: Texts, shapes: Texts, textures: Texts | None, counted: float
) -> tuple[str, ...]:
    """Return people's figures on one kind of pictures, for the headings of `PEOPLE_HEADS`.

    Args:
        kind: its name.
        answers: `[people, pictures]`.
        shapes, textures: `[pictures]`, the category of each picture's shape, and of its texture if
            that is another.
        counted: the share of correct answers by an earlier count.
    """
    correct = answers == shapes
    nobody = np.zeros((0, len(shapes)), bool)
    kappa = people_consistency(nobody, correct, np.arange(len(shapes))).people
    of_people = correct.mean(axis=1)
    return (
        kind,
        f"{len(answers)}",
        f"{len(shapes):,}",
        f"{correct.mean():.3f}",
        f"{counted:.2f}",
        f"{of_people.min():.2f} to {of_people.max():.2f}",
        f"{(answers == 'na').mean():.3f}",
        _kappa(kappa),
        "" if textures is None else _bias(_bias_of_choices(answers, shapes, textures)),
    )


PEOPLE_HEADS = (
    *("", "people", "pictures", "correct", "earlier count", "single people", "no answer"),
    *("κ of right and wrong", "shape bias"),
)


def _bias_of_choices(answers: Texts, shapes: Texts, textures: Texts) -> ShapeBias:
    """Return the shape bias with every category as a target."""
    targets = np.repeat(SIXTEEN_CATEGORIES, len(shapes))
    return shape_bias(
        np.tile(answers, 16) == targets,
        np.tile(shapes, 16) == targets,
        np.tile(textures, 16) == targets,
        np.tile(np.arange(len(shapes)), 16),
    )


def methods_table(settings: Mapping[str, SettingBesidePeople]) -> str:
    """Return a row for people and for each method, on each kind of pictures."""
    rows: list[tuple[str, ...]] = []
    for kind, setting in settings.items():
        (comparison,) = setting.comparisons
        found = comparison.detection
        own = (f"{found.d_prime.value:.2f}", f"{found.criterion.value:+.2f}", "")
        rows.append((kind, PEOPLE, *own, *_side(comparison.own), ""))
        for name, measures in setting.measures.items():
            side = comparison.detectors[name]
            own = (f"{measures.d_prime:.2f}", f"{measures.criterion:+.2f}", f"{measures.d_a:.2f}")
            rows.append(("", name, *own, *_side(side), _kappa(side.matched.present)))
    heads = ("", "", "d′", "c", "d_a", "κ present", "κ absent", "shape bias")
    return markdown(rows, (*heads, "κ present at people's rate"))


def differences_table(
    comparisons: Sequence[BesidePeople], methods: Sequence[str], references: Sequence[str]
) -> str:
    """Return how much closer to people methods are than the untouched network and a control."""
    columns = [(rate, trials) for rate in (OWN, MATCHED) for trials in ("present", "absent")]
    rows = [
        (
            f"{name} − {reference}",
            *(change(comparisons, name, reference, *column).text() for column in columns),
        )
        for reference in references
        for name in methods
        if name not in (references[0], reference)
    ]
    return markdown(rows, ("Δκ", *(f"{trials}, {rate}" for rate, trials in columns)))


def answer(
    comparisons: Sequence[BesidePeople], adapted: Mapping[str, str], untouched: str, control: str
) -> str:
    """Return the answer to whether adapting makes errors more like people's, as sentences.

    Args:
        comparisons: one for each kind of pictures.
        adapted: what a method adapts, by its name.
        untouched, control: the names of the untouched network and of the shift of the criterion.
    """

    def changes(rate: str, names: Iterable[str], reference: str = untouched) -> dict[str, Joint]:
        return {name: change(comparisons, name, reference, rate, "present") for name in names}

    own, matched = changes(OWN, adapted), changes(MATCHED, adapted)
    words = dict(adapted) | {control: "one bias"}

    def listed(found: Mapping[str, Joint]) -> str:
        return ", ".join(f"{joint.text()} with {words[name]}" for name, joint in found.items())

    beyond = changes(OWN, adapted, control)
    return (
        f"**{_headline(own, matched, words)}**\n\n"
        f"- At the threshold that each has learned, κ on trials with the target changes by "
        f"{listed(own | changes(OWN, [control]))}, against the untouched network.\n"
        f"- Against one bias, it changes by {listed(beyond)}.\n"
        f"- At people's rate of “present”, it changes by {listed(matched)}, against the untouched "
        "network and one bias alike.\n"
    )


def _headline(
    own: Mapping[str, Joint], matched: Mapping[str, Joint], words: Mapping[str, str]
) -> str:
    closer = [words[name] for name, found in matched.items() if found.interval[0] > 0]
    if closer:
        return (
            f"Yes: with {_either(closer)} adapted, the pictures that a network finds hard are more "
            "like those that people find hard, whatever its criterion."
        )
    nearer = [words[name] for name, found in own.items() if found.interval[0] > 0]
    if nearer:
        return (
            f"Only through the criterion: with {_either(nearer)} adapted, a network says “present” "
            "more often, and its misses become more like people's. No kind of adapting could be shown "
            "to bring the pictures that a network finds hard closer to those that people find hard."
        )
    return "Not as far as can be told: no kind of adapting made misses more like people's."


def _either(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def speed_table(
    fast: Sequence[BesidePeople], slow: Sequence[BesidePeople], methods: Sequence[str]
) -> str:
    """Return kappa with people's fast and slow answers, joint over kinds of pictures."""
    d_primes = [np.mean([one.detection.d_prime.value for one in of]) for of in (fast, slow)]
    rows = [
        ("people's d′", *(f"{value:.2f}" for value in d_primes), f"{-np.diff(d_primes)[0]:+.2f}")
    ]
    sides: dict[str, Callable[[BesidePeople], MeanKappa]] = {"κ among people": _among_people}
    sides |= {f"κ of {name}": kappa_of(name, MATCHED, "present") for name in methods}
    for label, side in sides.items():
        one, other = (joint([side(each) for each in of]) for of in (fast, slow))
        rows.append((label, one.text(".2f"), other.text(".2f"), (one - other).text("+.2f")))
    return markdown(rows, ("", "fast answers", "slow answers", "difference"))


def _among_people(comparison: BesidePeople) -> MeanKappa:
    return comparison.own.present


def budget_rows(
    labels: Mapping[str, str],
    settings: Sequence[SettingBesidePeople],
    fast: Sequence[BesidePeople],
    slow: Sequence[BesidePeople],
) -> list[tuple[str, ...]]:
    """Return d_a and kappa for each value of a budget, joint over kinds of pictures.

    Args:
        labels: the label of each record, by the submission's name.
        settings: one for each kind of pictures.
        fast, slow: the same with people's fast answers, and with their slow ones.
    """
    rows = []
    comparisons = [setting.comparisons[0] for setting in settings]
    for name, label in labels.items():
        d_a = float(np.mean([setting.measures[name].d_a for setting in settings]))
        of = ((OWN, comparisons), (MATCHED, comparisons), (MATCHED, fast), (MATCHED, slow))
        kappas = [
            joint([kappa_of(name, rate, "present")(one) for one in answered])
            for rate, answered in of
        ]
        rows.append((label, f"{d_a:.2f}", *(kappa.text(".2f") for kappa in kappas)))
    return rows


BUDGET_HEADS = (
    "",
    "d_a",
    "κ present",
    "at people's rate",
    "with fast answers",
    "with slow answers",
)


def markdown(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    """Return a table in Markdown."""
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True) + "\n"


def _side(side: Beside) -> tuple[str, str, str]:
    bias = "" if side.bias is None else _bias(side.bias)
    return _kappa(side.present), _kappa(side.absent), bias


def _kappa(kappa: MeanKappa) -> str:
    if kappa.value is None:
        return "undefined"
    return f"{kappa.value:.2f}{_interval(kappa.interval)} of {kappa.largest:.2f}"


def _bias(bias: ShapeBias) -> str:
    return "undefined" if bias.bias is None else f"{bias.bias:.2f}{_interval(bias.interval)}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
