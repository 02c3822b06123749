"""`leaderboard.md`: a deterministic function of the records."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from tabulate import tabulate

from attnbench.leaderboard.standings import (
    Cell,
    Contest,
    Costs,
    Interval,
    Standing,
    Standings,
    standings_by_track,
)
from attnbench.records.record import Identity, Record
from attnbench.records.verification import Badge

_LEGEND = (
    "d′ is how well target-present and target-absent images are told apart at the detector's own "
    "threshold (0 is chance), the mean over targets, with its 95 % interval; c how much it leans to "
    "“absent” (above 0); and “d_a above bias_only” how much of the sensitivity no shift of criterion "
    "can buy. "
    "What cannot be told apart at 5 % (paired on the same targets, Holm's correction) shares a rank, a "
    "failure ranks last, and – is not applicable (a mean over fewer tasks says so). "
    "Parameters are those counted in the delivered artefact, added and changed; adaptation is the "
    "median over episodes on the device named, and in passes, multiples of one forward pass of the "
    "backbone over as many images; the badge says whether the episodes were run again "
    "(`attnbench verify`) and the figures held."
)
_CONTENDED = "—"
_CONTENDED_LEGEND = f" {_CONTENDED} stands where no episode had the device to itself."
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
    "Read out by arg-max instead, where a detector keeps the backbone's outputs: the target's is the "
    "largest of all (argmax-all), or of the task's targets (argmax-targets, the official rule of "
    "ImageNet-A). Rates are uncorrected means over targets."
)
_TEXT_LIMIT = 160


def leaderboard_markdown(
    records: Sequence[Record], badges: Mapping[Identity, Badge] | None = None
) -> str:
    """The page for these records, in whatever order they come; ends in a newline.

    Args:
        records: what is shown.
        badges: by the records' identities; self-reported where there is none.
    """
    newest = max((record.created for record in records), default="")
    return markdown_of(standings_by_track(records, badges or {}), newest)


def markdown_of(tracks: Mapping[str, Standings], newest: str) -> str:
    """The page for standings that are there already.

    Args:
        tracks: of each track, in their order.
        newest: when the newest record was created.
    """
    lines = ["# Leaderboard", ""]
    if not tracks:
        lines += ["No records yet. Make the first with `attnbench evaluate submissions/attention`."]
        return "\n".join(lines) + "\n"
    lines += [_legend(tracks.values()), ""]
    for track, found in tracks.items():
        lines += [f"## {track}", "", *_table(found), ""]
        lines += _failures(found)
        lines += _readouts(found)
    lines += [f"Newest record: {escape(newest)}."]
    return "\n".join(lines) + "\n"


def _table(found: Standings) -> list[str]:
    headers = ["rank", "submission", "mean rank", "d′"]
    headers += [_heading(contest, found.contests) for contest in found.contests]
    headers += ["d_a above bias_only", "c", "parameters", "adaptation", "passes", "device", "badge"]
    rows = [
        [
            "–" if row.rank is None else str(row.rank),
            escape(row.entrant.submission),
            _with_interval(row.mean_rank, row.mean_rank_interval, ".1f"),
            _with_interval(row.d_prime, row.interval, ".2f") + _share(row, found.contests),
            *(_cell(row.cells.get(contest)) for contest in found.contests),
            _with_interval(row.above_control, row.above_control_interval, "+.2f"),
            "–" if row.criterion is None else f"{row.criterion:+.2f}",
            *_costs(row.costs),
            escape(row.device),
            row.badge,
        ]
        for row in found.rows
    ]
    alignment = ["right", "left"] + ["right"] * (len(headers) - 4) + ["left"] * 2
    table = tabulate(rows, headers, tablefmt="github", colalign=alignment, disable_numparse=True)
    return table.splitlines()


def _heading(contest: Contest, contests: Sequence[Contest]) -> str:
    """The task, and as much more of the contest as tells it from others."""
    heading = escape(contest.task)
    same = [each for each in contests if each.task == contest.task]
    if len({each.backbone for each in same}) > 1:
        heading += f" ({escape(contest.backbone)})"
    if contest.untrained:
        heading += " (untrained)"
    if len({each.task_sha256 for each in same}) > 1:
        heading += f" [{contest.task_sha256[:6]}]"
    return heading


def _with_interval(value: float | None, ends: Interval | None, form: str) -> str:
    if value is None or ends is None:
        return "–"
    return f"{value:{form}} [{ends[0]:{form}}, {ends[1]:{form}}]"


def _share(row: Standing, contests: Sequence[Contest]) -> str:
    """Of how many contests a mean is, where that is not all of them."""
    has = sum(cell.d_prime is not None for cell in row.cells.values())
    return f" ({has} of {len(contests)})" if row.d_prime is not None and has < len(contests) else ""


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.d_prime is None:
        return "failed" if cell.status == "failed" else "–"
    return f"{cell.d_prime:.2f}"


def _costs(costs: Costs | None) -> list[str]:
    if costs is None:
        return ["–"] * 3
    least, most = costs.parameters
    count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    if costs.opaque:
        count += f" ({costs.opaque:,} not in tensors)"
    count += "".join(f" (declared {n:,})" for n in costs.declared)
    if costs.times.adaptation is None or costs.times.passes is None:
        return [count, _CONTENDED, _CONTENDED]
    return [count, f"{costs.times.adaptation:.3f} s", f"{costs.times.passes:.2f}"]


def _legend(tracks: Iterable[Standings]) -> str:
    """What the columns say; what is rare only where it occurs."""
    contended = any(
        row.costs is not None and row.costs.times.adaptation is None
        for found in tracks
        for row in found.rows
    )
    return _LEGEND + (_CONTENDED_LEGEND if contended else "")


def _failures(found: Standings) -> list[str]:
    """A line for each failure, with its reason."""
    lines = [
        f"- {escape(row.entrant.submission)} on {_heading(contest, found.contests)}: "
        + escape(cell.reason)
        for row in found.rows
        for contest, cell in sorted(row.cells.items())
        if cell.status == "failed"
    ]
    return ["Failures:", "", *lines, ""] if lines else []


def _readouts(found: Standings) -> list[str]:
    """The table of read-outs by arg-max; nothing where there are none."""
    rows = []
    for row in found.rows:
        for contest, cell in row.cells.items():
            for name in ("argmax-all", "argmax-targets"):
                read = [each.readouts[name] for each in cell.episodes if name in each.readouts]
                if cell.status == "ok" and read and len(read) == len(cell.episodes):
                    figures = (
                        f"{mean(each.hits / each.positives for each in read):.3f}",
                        f"{mean(each.false_alarms / each.negatives for each in read):.4f}",
                        f"{mean(each.d_prime for each in read):.2f}",
                        f"{mean(each.criterion for each in read):+.2f}",
                    )
                    names = escape(contest.task), name, escape(row.entrant.submission)
                    key = contest, name, -mean(each.d_prime for each in read), row.entrant
                    rows.append((key, (*names, escape(contest.backbone), *figures)))
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
    """Untrusted text as one line of plain Markdown: no markup, no control or direction marks."""
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
