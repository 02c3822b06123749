"""`leaderboard.md`, a deterministic function of the records."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from statistics import mean

from tabulate import tabulate

from attnbench.leaderboard.pareto import ParetoMember
from attnbench.leaderboard.pooling import CostSummary, Setting, SettingResult
from attnbench.leaderboard.standings import Standings, StandingsRow
from attnbench.leaderboard.wording import describe_standing, describe_tests, summarise
from attnbench.statistics.joint_means import Estimate

_CONTENDED = "—"
_LEGEND = (
    "**against bias_only**: whether d_a is above or below that of the control `bias_only`, which only "
    "moves the threshold, or could not be distinguished from it (5 %, Holm's correction for all "
    "methods tested). A method that lacks a task, target or seed of the control is not compared.",
    "**ranks**: those that the tests leave open. Methods above the control are also tested against "
    "each other (5 %, Holm's correction for all pairs).",
    "**d′**: the sensitivity at the detector's own threshold; 0 is chance. **d_a**: the sensitivity "
    "over all thresholds, by which methods are ranked. Both are means over tasks of means over "
    "targets, with 95 % intervals over targets. The columns of tasks show d′ / d_a; a task in "
    "parentheses is not in the means, as `bias_only` does not apply to it.",
    "**d_a − bias_only**: paired by target, seed and image, with a 95 % interval that is not "
    "corrected. Methods are ordered by its lower end, those above the control first.",
    "**order of bias_only**: on how many tasks the scores order the images as those of `bias_only` do, "
    "with a rank correlation of at least 0.98. On these the method does little but move the threshold.",
    "**c**: the criterion; above 0 the detector is biased towards “absent”.",
    "**parameters**: counted in the delivered artefact, added and changed together.",
    "**other numbers**: the largest number of numbers outside tensors, such as settings. They count as "
    "parameters only where they could hide some.",
    "**adaptation**: the median time over episodes on the device named.",
    "**passes**: the same time in multiples of one forward pass of the backbone over as many images.",
    "**badge**: “verified” if the episodes were run again (`attnbench verify`) with the same outcome; "
    "“audited” if the submission does as well on images of a secret seed, within chance; “better on "
    "public seeds” if it does worse there.",
    "**–**: not applicable.",
)
_CONTENDED_LEGEND = f"**{_CONTENDED}**: no episode had the device to itself, so there are no times."
_READOUT_HEADERS = (
    "task",
    "read-out",
    "submission",
    "backbone",
    "hit rate",
    "false-alarm rate",
    "d′",
    "c",
)
_READOUT_LEGEND = (
    "Read-outs by arg-max, for detectors that keep the backbone's outputs. A detector says “present” "
    "if the target's output is the largest of all (argmax-all), or the largest among the task's "
    "targets (argmax-targets, the official rule of ImageNet-A). Rates are uncorrected means over "
    "targets."
)
_TEXT_LIMIT = 160


def markdown_of(boards: Sequence[Standings], newest: str, stale: int = 0) -> str:
    """Return the page for standings.

    Args:
        boards: the standings, in the order to show them.
        newest: when the newest record was created.
        stale: number of records from an earlier version of attnbench
            (`attnbench.leaderboard.staleness.count_stale`).

    Returns:
        Markdown that ends in a newline.
    """
    lines = ["# Leaderboard", ""]
    if not boards:
        lines += ["No records yet. Make the first with `attnbench evaluate submissions/attention`."]
        return "\n".join(lines) + "\n"
    answers = [(standings.name, summarise(standings)) for standings in boards]
    lines += [f"- **{name}**: {escape(text, 1000)}" for name, text in answers if text]
    lines += [""] * any(text for _, text in answers)
    if stale:
        lines += [_stale_note(boards, stale), ""]
    lines += [*_legend(boards), ""]
    for standings in boards:
        lines += [f"## {standings.name}", "", describe_tests(standings), ""]
        lines += [*_table(standings), "", *_front(standings)]
        lines += _failures(standings)
        lines += _readouts(standings)
    lines += [f"Newest record: {escape(newest)}."]
    return "\n".join(lines) + "\n"


def _stale_note(boards: Sequence[Standings], stale: int) -> str:
    number = sum(
        result.seeds  # one record per seed
        for standings in boards
        for row in standings.rows
        for result in row.results.values()
    )
    were = "was" if stale == 1 else "were"
    return (
        f"{stale:,} of {number:,} records {were} made with an earlier version of attnbench and will be "
        "made again."
    )


def _table(standings: Standings) -> list[str]:
    headers = ["against bias_only", "submission", "ranks", "d′", "d_a", "d_a − bias_only"]
    headers += [
        _heading(setting, standings)
        if setting in standings.compared
        else f"({_heading(setting, standings)})"
        for setting in standings.settings
    ]
    headers += ["order of bias_only", "c", "parameters", "other numbers"]
    headers += ["adaptation", "passes", "device", "badge"]
    rows = [
        [
            describe_standing(row),
            escape(row.method.submission),
            _ranks(row.placement.ranks),
            _estimate(row.placement.d_prime, ".2f"),
            _estimate(row.placement.d_a, ".2f"),
            _estimate(row.placement.difference, "+z.2f"),
            *(_result(row.results.get(setting)) for setting in standings.settings),
            _order(row),
            "–" if row.criterion is None else f"{row.criterion:+.2f}",
            *_costs(row.costs),
            escape(row.device),
            row.badge,
        ]
        for row in standings.rows
    ]
    alignment = ["left"] * 2 + ["right"] * (len(headers) - 4) + ["left"] * 2
    table = tabulate(rows, headers, tablefmt="github", colalign=alignment, disable_numparse=True)
    return table.splitlines()


def _order(row: StandingsRow) -> str:
    """Return on how many of the settings that can be compared it has the control's order."""
    compared = len(row.order_correlations)
    return f"{row.settings_in_order_of_control} of {compared}" if compared else "–"


def _heading(setting: Setting, standings: Standings) -> str:
    """Return the task, with its backbone and version where the task alone is ambiguous."""
    heading = escape(setting.task)
    same_task = [candidate for candidate in standings.settings if candidate.task == setting.task]
    if len({candidate.backbone for candidate in same_task}) > 1:
        heading += f" ({escape(setting.backbone)})"
    if setting.untrained:
        heading += " (untrained)"
    if len({candidate.task_sha256 for candidate in same_task}) > 1:
        heading += f" [{setting.task_sha256[:6]}]"
    return heading


def _ranks(ranks: tuple[int, int] | None) -> str:
    if ranks is None:
        return "–"
    best, worst = ranks
    return str(best) if best == worst else f"{best} to {worst}"


def _estimate(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "–"
    if estimate.interval is None:
        return f"{estimate.value:{form}}"
    low, high = estimate.interval
    return f"{estimate.value:{form}} [{low:{form}}, {high:{form}}]"


def _result(result: SettingResult | None) -> str:
    if result is None:
        return ""
    if result.d_prime is None or result.d_a is None:
        return "failed" if result.status == "failed" else "–"
    return f"{result.d_prime:.2f} / {result.d_a:.2f}"


def _costs(costs: CostSummary | None) -> list[str]:
    """Return the cells for parameters, other numbers, adaptation time and passes."""
    if costs is None:
        return ["–"] * 4
    smallest, largest = costs.parameters
    count = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    count += "".join(f" (declared {n:,})" for n in costs.declared)
    other = "–" if costs.other_numbers is None else f"{costs.other_numbers:,}"
    if costs.times.adaptation is None or costs.times.passes is None:
        return [count, other, _CONTENDED, _CONTENDED]
    return [count, other, f"{costs.times.adaptation:.3f} s", f"{costs.times.passes:.2f}"]


def _legend(boards: Sequence[Standings]) -> list[str]:
    """Return a list of definitions; it explains the mark for contended times only if it occurs."""
    contended = any(
        row.costs is not None and row.costs.times.adaptation is None
        for standings in boards
        for row in standings.rows
    )
    definitions = (*_LEGEND, _CONTENDED_LEGEND) if contended else _LEGEND
    return [f"- {definition}" for definition in definitions]


def _front(standings: Standings) -> list[str]:
    """Return a sentence for the Pareto front, or nothing if there is none."""
    members = [
        escape(member.point.method.submission)
        + ("" if member.margin is None else f" ({_margin(member)})")
        for member in standings.front
    ]
    if not members:
        return []
    return [
        "Pareto front, the methods that no other one dominates in d_a, parameters and passes, with the "
        "margin in d_a over the best that costs no more: " + ", ".join(members) + ".",
        "",
    ]


def _margin(member: ParetoMember) -> str:
    return _estimate(Estimate(member.margin or 0.0, member.interval), "+.2f")


def _failures(standings: Standings) -> list[str]:
    """Return a line for each failure, with its reason."""
    lines = [
        f"- {escape(row.method.submission)} on {_heading(setting, standings)}: "
        + escape(result.reason)
        for row in standings.rows
        for setting, result in sorted(row.results.items())
        if result.status == "failed"
    ]
    return ["Failures:", "", *lines, ""] if lines else []


def _readouts(standings: Standings) -> list[str]:
    """Return the table of read-outs by arg-max, or nothing if there are none."""
    rows = []
    for row in standings.rows:
        for setting, result in row.results.items():
            for name in ("argmax-all", "argmax-targets"):
                readouts = [e.readouts[name] for e in result.episodes if name in e.readouts]
                if result.status == "ok" and readouts and len(readouts) == len(result.episodes):
                    numbers = (
                        f"{mean(r.hits / r.positives for r in readouts):.3f}",
                        f"{mean(r.false_alarms / r.negatives for r in readouts):.4f}",
                        f"{mean(r.d_prime for r in readouts):.2f}",
                        f"{mean(r.criterion for r in readouts):+.2f}",
                    )
                    names = escape(setting.task), name, escape(row.method.submission)
                    key = setting, name, -mean(r.d_prime for r in readouts), row.method
                    rows.append((key, (*names, escape(setting.backbone), *numbers)))
    if not rows:
        return []
    table = tabulate(
        [row for _, row in sorted(rows)],
        _READOUT_HEADERS,
        tablefmt="github",
        colalign=["left"] * 4 + ["right"] * 4,
        disable_numparse=True,
    )
    return [_READOUT_LEGEND, "", table, ""]


def escape(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return untrusted text as one bounded line of plain Markdown.

    Markup is escaped. Control characters and marks of text direction are removed, because they could
    disguise what the line says.
    """
    visible = "".join(
        " " if character.isspace() else character
        for character in text[: 4 * limit]
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
    )
    line = " ".join(visible.split())
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", line)
