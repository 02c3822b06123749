"""Writes docs/what-we-learned.md, its plots, and a table of docs/reproductions.md.

They are made from the published records.

    python -m benchmarks.report [--check]

Every comparison on the page is corrected for all of them (Holm). With `--check` nothing is written, and
the exit code says whether the page is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from attnbench.commands.compare import compare
from attnbench.commands.leaderboard import build_leaderboard
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.comparison import PairComparison
from attnbench.leaderboard.plot_style import BLUE, INK, VERMILION, Plot, new_figure, styled, svg
from attnbench.leaderboard.site.charts import standings_chart
from attnbench.leaderboard.standings import Standings, StandingsRow
from attnbench.leaderboard.wording import summarise
from attnbench.statistics.joint_means import Estimate
from attnbench.statistics.ranking import holm
from benchmarks import luo_beside_ours
from benchmarks.studies.pages import with_block

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "what-we-learned.md"
REPRODUCTIONS = PAGE.with_name("reproductions.md")
FIGURES = PAGE.parent / "what-we-learned"
RECORDS = ROOT / "published"


@dataclass(frozen=True)
class Question:
    """A question, why it is asked, and the pairs of submissions whose difference answers it."""

    title: str
    about: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The submissions of all pairs, each once."""
        return tuple(dict.fromkeys(name for pair in self.pairs for name in pair))


QUESTIONS = (
    Question(
        "Does attention beat a bias, or retraining?",
        "`attention` is one gain for each channel of a layer, and a threshold. `bias_only` is the "
        "threshold alone. `last_layer` and `full_finetune` retrain the read-out and all weights. "
        "`attention_as_published` is the attention layer of Luo et al. (2021), without a threshold.",
        (
            ("attention", "bias_only"),
            ("attention", "last_layer"),
            ("attention", "full_finetune"),
            ("attention", "attention_as_published"),
        ),
    ),
    Question(
        "Do few parameters do as well as all of them?",
        "`bitfit` trains the biases of a network, `film` scales and shifts its channels, `lora` adds "
        "matrices of low rank. `full_finetune` trains everything.",
        (("bitfit", "full_finetune"), ("film", "full_finetune"), ("lora", "full_finetune")),
    ),
    Question(
        "Is training worth its time?",
        "`prototype` and `lda` are closed forms: they take means, and a covariance. `linear_probe` and "
        "`last_layer` are trained.",
        (("linear_probe", "prototype"), ("linear_probe", "lda"), ("last_layer", "prototype")),
    ),
    Question(
        "Does it matter where a network looks?",
        "`glimpse_saccade` sees 30 % of the pixels, chosen by a first glance. `glimpse_random` sees a "
        "random 30 %. `spatial_attention` weights places by what is there. In "
        "`spatial_attention_as_published` the weights are constant, as the published code has them.",
        (
            ("glimpse_saccade", "glimpse_random"),
            ("spatial_attention", "spatial_attention_as_published"),
        ),
    ),
)


@dataclass(frozen=True)
class Answer:
    """A comparison on a track, with p corrected for all comparisons of the page."""

    track: str
    pair: PairComparison


def report(records: Path) -> dict[Path, bytes]:
    """Return the content of each page and of each plot.

    Args:
        records: the folder of records.
    """
    boards = build_leaderboard([records]).boards
    answers = answer_all(QUESTIONS, records)
    files: dict[Path, bytes] = {}
    number = sum(map(len, answers))
    lines = [
        "# What we learned",
        "",
        "`python -m benchmarks.report` writes this page from the [published records](../published). "
        "Methods are compared in d_a, which no shift of the criterion changes. Intervals are over "
        f"targets. p is corrected for all {number} comparisons of two methods below (Holm). [How "
        "methods are compared](leaderboard.md#how-methods-are-compared) says what a mean is over.",
        "",
        "## Does anything beat moving the threshold?",
        "",
        "A detector that calls too few pictures “present” has a low d′, and may order them well all "
        "the same. `bias_only` moves the threshold and nothing else, so what is above it has learned "
        "something.",
        "",
    ]
    for board in boards:
        lines += _against_the_control(board, files)
    for place, (question, found) in enumerate(zip(QUESTIONS, answers, strict=True)):
        lines += ["", f"## {question.title}", "", question.about, ""]
        if not found:
            lines += ["No published records answer this yet."]
            continue
        plot = difference_plot(f"{place}-differences", question.title, found)
        files[FIGURES / f"{plot.name}.svg"] = svg(plot)
        lines += [f"![{plot.description}]({FIGURES.name}/{plot.name}.svg)", ""]
        lines += [*_differences(found), "", *_measures(question.methods, boards)]
    lines += [
        "",
        "## How to look yourself",
        "",
        "`attnbench compare A B` compares two methods on every track. "
        "[leaderboard.md](../leaderboard.md) has all of them. The scores of every image lie beside "
        "each record.",
        "",
    ]
    files[PAGE] = "\n".join(lines).encode()
    files[REPRODUCTIONS] = with_block(REPRODUCTIONS, "luo", luo_beside_ours.table(records)).encode()
    return files


def answer_all(questions: Sequence[Question], records: Path) -> list[list[Answer]]:
    """Compare all pairs of all questions on every track, and correct p for all of them."""
    answers = [list(_answers(question, records)) for question in questions]
    flat = [answer for of_question in answers for answer in of_question]
    ps = [answer.pair.p for answer in flat]
    known = [number for number, p in enumerate(ps) if p is not None]
    corrected = holm(np.array([ps[number] for number in known], float)).tolist()
    by_number: Mapping[int, float] = dict(zip(known, corrected, strict=True))
    numbers = iter(range(len(flat)))
    return [
        [
            replace(answer, pair=replace(answer.pair, p_holm=by_number.get(next(numbers))))
            for answer in of_question
        ]
        for of_question in answers
    ]


def _answers(question: Question, records: Path) -> Iterator[Answer]:
    for pair in question.pairs:
        try:
            found = compare(pair, records=records)
        except AttnbenchError:
            continue  # one of the two has no records
        for comparison in found:
            kind = "" if comparison.has_labels else ", targets without a label"
            yield Answer(f"{comparison.track}{kind}", comparison.pairs[0])


def _against_the_control(board: Standings, files: dict[Path, bytes]) -> list[str]:
    text = summarise(board)
    if not text:
        return []
    lines = [f"- **{board.name}**: {text}"]
    for verdict in ("above", "below"):
        names = [f"`{r.method.submission}`" for r in board.rows if r.placement.verdict == verdict]
        lines += [f"  {verdict.capitalize()} it: {', '.join(names)}."] if names else []
    chart = standings_chart(board, {row.method: "" for row in board.rows})
    if chart is not None:
        name = f"{chart.name}.svg"
        files[FIGURES / name] = chart.picture()
        lines += ["", f"![{chart.description}]({FIGURES.name}/{name})", ""]
    return lines


def _differences(answers: Sequence[Answer]) -> list[str]:
    """Return a table of differences, with what each shows."""
    rows = []
    for answer in answers:
        pair = answer.pair
        better = pair.first if pair.d_a.value > 0 else pair.second
        shown = f"`{better}` is better" if pair.significant else "not distinguished"
        p = (
            "–"
            if pair.p_holm is None
            else f"{pair.p_holm:.3f}"
            if pair.p_holm >= 0.001
            else "< 0.001"
        )
        names = f"`{pair.first}` − `{pair.second}`"
        rows.append((answer.track, names, _signed(pair.d_a), _signed(pair.d_prime), p, shown))
    headers = ("track", "difference", "in d_a [95 %]", "in d′ [95 %]", "p", "shown in d_a")
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return table.splitlines()


def _signed(estimate: Estimate) -> str:
    text = f"{estimate.value:+.2f}"
    if estimate.interval is not None:
        text += " [{:+.2f}, {:+.2f}]".format(*estimate.interval)
    return text.replace("-", "−")


def _measures(methods: Sequence[str], boards: Sequence[Standings]) -> list[str]:
    """Return a table of the measures and costs of methods on each track."""
    rows = [
        (board.name, *_cells(row))
        for board in boards
        for row in board.rows
        if row.method.submission in methods and row.placement.d_a is not None
    ]
    headers = ("track", "method", "d_a", "d′", "c", "parameters", "passes")
    table = tabulate(
        rows,
        headers,
        tablefmt="github",
        colalign=("left", "left", *["right"] * 5),
        disable_numparse=True,
    )
    return table.splitlines() if rows else []


def _cells(row: StandingsRow) -> tuple[str, ...]:
    placement, costs = row.placement, row.costs
    passes = costs.times.passes if costs else None
    return (
        f"`{row.method.submission}`",
        f"{placement.d_a.value:.2f}" if placement.d_a else "–",
        f"{placement.d_prime.value:.2f}" if placement.d_prime else "–",
        "–" if row.criterion is None else f"{row.criterion:+.2f}",
        f"{costs.parameters[1]:,}" if costs else "–",
        "–" if passes is None else f"{passes:.2f}",
    )


def difference_plot(name: str, title: str, answers: Sequence[Answer]) -> Plot:
    """Plot differences in d_a with their intervals; those that are significant in colour."""
    with styled():
        figure = new_figure(8, 0.8 + 0.36 * len(answers))
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, answer in enumerate(answers):
            value, interval = answer.pair.d_a.value, answer.pair.d_a.interval
            colour = VERMILION if answer.pair.significant else BLUE
            axes.plot(interval or (value, value), (place, place), color=colour, linewidth=1.5)
            axes.plot(value, place, "o", color=colour)
        labels = [f"{a.pair.first} − {a.pair.second}, {a.track}" for a in answers]
        axes.set_yticks(range(len(answers)), labels)
        axes.invert_yaxis()
        axes.set_xlabel("difference in d_a, 95 % interval")
        figure.tight_layout()
    description = (
        f"{title} Differences in d_a of {len(answers)} comparisons. Those in orange-red are "
        "significant after correction for all comparisons of the page."
    )
    return Plot(name, title, description, figure)


def main() -> int:
    """Write the page and its plots, or check them."""
    files = report(RECORDS)
    if sys.argv[1:] == ["--check"]:
        stale = [path for path, text in files.items() if _content(path) != text]
        print(*(f"{path} is not up to date" for path in stale), sep="\n")
        return int(bool(stale))
    FIGURES.mkdir(exist_ok=True)
    for old in set(FIGURES.glob("*.svg")) - files.keys():
        old.unlink()
    for path, text in files.items():
        path.write_bytes(text)
    print(f"{PAGE}: {len(list(FIGURES.glob('*.svg')))} plots")
    return 0


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main())
