"""`leaderboard.md`, a deterministic function of the records."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from tabulate import tabulate

from attnbench.leaderboard.pooling import CostSummary, Setting, SettingResult
from attnbench.leaderboard.ranking import Interval
from attnbench.leaderboard.standings import Standings, StandingsRow

_CONTENDED = "—"
_LEGEND = (
    "**rank**: one more than the number of significantly better methods (5 %, paired on the same "
    "targets, Holm's correction). Methods that could not be distinguished from the best share rank 1. "
    "Methods with a failure rank last.",
    "**mean rank**: over tasks, each ranked by d′, with its 95 % interval from bootstrap replicates.",
    "**d′**: the sensitivity at the detector's own threshold, averaged over targets, with its 95 % "
    "confidence interval; 0 is chance. A mean over fewer tasks says how many.",
    "**d_a above bias_only**: d_a, the sensitivity over all thresholds, compared with a control that "
    "only shifts the criterion.",
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


def markdown_of(tracks: Mapping[str, Standings], newest: str, stale: int = 0) -> str:
    """Return the page for standings.

    Args:
        tracks: the standings of each track, in the order to show them.
        newest: when the newest record was created.
        stale: number of records from an earlier version of attnbench
            (`attnbench.leaderboard.staleness.count_stale`).

    Returns:
        Markdown that ends in a newline.
    """
    lines = ["# Leaderboard", ""]
    if not tracks:
        lines += ["No records yet. Make the first with `attnbench evaluate submissions/attention`."]
        return "\n".join(lines) + "\n"
    if stale:
        lines += [_stale_note(tracks.values(), stale), ""]
    lines += [*_legend(tracks.values()), ""]
    for track, standings in tracks.items():
        lines += [f"## {track}", "", *_table(standings), ""]
        lines += _failures(standings)
        lines += _readouts(standings)
    lines += [f"Newest record: {escape(newest)}."]
    return "\n".join(lines) + "\n"


def _stale_note(tracks: Iterable[Standings], stale: int) -> str:
    number = sum(
        result.seeds  # one record per seed
        for standings in tracks
        for row in standings.rows
        for result in row.results.values()
    )
    were = "was" if stale == 1 else "were"
    return (
        f"{stale:,} of {number:,} records {were} made with an earlier version of attnbench and will be "
        "made again."
    )


def _table(standings: Standings) -> list[str]:
    headers = ["rank", "submission", "mean rank", "d′"]
    headers += [_heading(setting, standings.settings) for setting in standings.settings]
    headers += ["d_a above bias_only", "order of bias_only", "c", "parameters", "other numbers"]
    headers += ["adaptation", "passes", "device", "badge"]
    rows = [
        [
            "–" if row.rank is None else str(row.rank),
            escape(row.method.submission),
            _with_interval(row.mean_rank, row.mean_rank_interval, ".1f"),
            _with_interval(row.d_prime, row.d_prime_interval, ".2f")
            + _coverage(row, standings.settings),
            *(_result(row.results.get(setting)) for setting in standings.settings),
            _with_interval(row.advantage, row.advantage_interval, "+.2f"),
            _order(row),
            "–" if row.criterion is None else f"{row.criterion:+.2f}",
            *_costs(row.costs),
            escape(row.device),
            row.badge,
        ]
        for row in standings.rows
    ]
    alignment = ["right", "left"] + ["right"] * (len(headers) - 4) + ["left"] * 2
    table = tabulate(rows, headers, tablefmt="github", colalign=alignment, disable_numparse=True)
    return table.splitlines()


def _order(row: StandingsRow) -> str:
    """Return on how many of the settings that can be compared it has the control's order."""
    compared = len(row.order_correlations)
    return f"{row.settings_in_order_of_control} of {compared}" if compared else "–"


def _heading(setting: Setting, settings: Sequence[Setting]) -> str:
    """Return the task, with its backbone and version where the task alone is ambiguous."""
    heading = escape(setting.task)
    same_task = [candidate for candidate in settings if candidate.task == setting.task]
    if len({candidate.backbone for candidate in same_task}) > 1:
        heading += f" ({escape(setting.backbone)})"
    if setting.untrained:
        heading += " (untrained)"
    if len({candidate.task_sha256 for candidate in same_task}) > 1:
        heading += f" [{setting.task_sha256[:6]}]"
    return heading


def _with_interval(value: float | None, interval: Interval | None, form: str) -> str:
    if value is None or interval is None:
        return "–"
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def _coverage(row: StandingsRow, settings: Sequence[Setting]) -> str:
    """Return the number of settings that a mean covers, unless it covers all."""
    covered = sum(result.d_prime is not None for result in row.results.values())
    partial = row.d_prime is not None and covered < len(settings)
    return f" ({covered} of {len(settings)})" if partial else ""


def _result(result: SettingResult | None) -> str:
    if result is None:
        return ""
    if result.d_prime is None:
        return "failed" if result.status == "failed" else "–"
    return f"{result.d_prime:.2f}"


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


def _legend(tracks: Iterable[Standings]) -> list[str]:
    """Return a list of definitions; it explains the mark for contended times only if it occurs."""
    contended = any(
        row.costs is not None and row.costs.times.adaptation is None
        for standings in tracks
        for row in standings.rows
    )
    definitions = (*_LEGEND, _CONTENDED_LEGEND) if contended else _LEGEND
    return [f"- {definition}" for definition in definitions]


def _failures(standings: Standings) -> list[str]:
    """Return a line for each failure, with its reason."""
    lines = [
        f"- {escape(row.method.submission)} on {_heading(setting, standings.settings)}: "
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


def escape(text: str) -> str:
    """Return untrusted text as one bounded line of plain Markdown.

    Markup is escaped. Control characters and marks of text direction are removed, because they could
    disguise what the line says.
    """
    visible = "".join(
        " " if character.isspace() else character
        for character in text[: 4 * _TEXT_LIMIT]
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
    )
    line = " ".join(visible.split())
    if len(line) > _TEXT_LIMIT:
        line = line[: _TEXT_LIMIT - 1] + "…"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", line)
