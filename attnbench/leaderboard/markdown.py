"""`leaderboard.md`: a deterministic function of the records."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

from tabulate import tabulate

from attnbench.records.record import Identity, Record
from attnbench.records.verification import Badge
from attnbench.statistics.detection import Counts
from attnbench.statistics.intervals import d_prime_interval

_HEADERS = (
    "task",
    "submission",
    "backbone",
    "targets",
    "seeds",
    "d′ [95 % interval]",
    "c",
    "d_a",
    "parameters (added + changed)",
    "adaptation, s",
    "passes",
    "device",
    "badge",
)
_LEGEND = (
    "d′ is how well target-present and target-absent images are told apart at the detector's own "
    "threshold (0 is chance), c how much it leans to “absent” (above 0) or “present” (below), and d_a "
    "the sensitivity that no shift of criterion can buy. "
    "Parameters are counted in the delivered artefact: scalars added to the backbone, and scalars in "
    "tensors that differ from it. "
    "Adaptation is the median over targets, in seconds on the device named, and in passes: multiples "
    "of one forward pass of the backbone over the same images. "
    "The badge says whether the episodes were run again (`attnbench verify`) and the figures held."
)
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


@dataclass(frozen=True, order=True)
class _Group:
    """What the seeds of one row have in common; the hashes keep versions apart."""

    task: str
    submission: str
    backbone: str
    untrained: bool
    device_name: str
    submission_sha256: str
    task_sha256: str
    backbone_sha256: str
    targets: tuple[str, ...]


def leaderboard_markdown(
    records: Sequence[Record], badges: Mapping[Identity, Badge] | None = None
) -> str:
    """The page for these records, in whatever order they come; ends in a newline.

    Args:
        records: what is shown.
        badges: by the records' identities; self-reported where there is none.
    """
    badges = badges or {}
    lines = ["# Leaderboard", ""]
    if not records:
        lines += ["No records yet. Make the first with `attnbench evaluate submissions/attention`."]
        return "\n".join(lines) + "\n"
    lines += [_LEGEND, ""]
    for track in ("mini", "small", "full"):
        groups = _groups([record for record in records if record.identity.track == track])
        if groups:
            rows = [
                row
                for _, row in sorted(_row(group, each, badges) for group, each in groups.items())
            ]
            alignment = ["left"] * 3 + ["right"] * 8 + ["left"] * 2
            table = tabulate(
                rows, _HEADERS, tablefmt="github", colalign=alignment, disable_numparse=True
            )
            lines += [f"## {track}", "", table, ""]
            lines += _readouts(groups)
    newest = max(record.created for record in records)
    lines += [f"Newest record: {escape(newest)}."]
    return "\n".join(lines) + "\n"


def _readouts(groups: dict[_Group, list[Record]]) -> list[str]:
    """The table of read-outs by arg-max; nothing where there are none."""
    rows = []
    for group, records in groups.items():
        episodes = [episode for record in records for episode in record.episodes]
        if any(record.status != "ok" for record in records):
            continue
        for name in ("argmax-all", "argmax-targets"):
            found = [episode.readouts[name] for episode in episodes if name in episode.readouts]
            if found and len(found) == len(episodes):
                figures = (
                    f"{mean(each.hits / each.positives for each in found):.3f}",
                    f"{mean(each.false_alarms / each.negatives for each in found):.4f}",
                    f"{mean(each.d_prime for each in found):.2f}",
                    f"{mean(each.criterion for each in found):+.2f}",
                )
                key = (group.task, name, -mean(each.d_prime for each in found), group)
                names = (escape(group.task), name, escape(group.submission), escape(group.backbone))
                rows.append((key, (*names, *figures)))
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


def _groups(records: Sequence[Record]) -> dict[_Group, list[Record]]:
    groups: dict[_Group, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda each: each.model_dump_json()):
        who = record.identity
        group = _Group(
            who.task,
            who.submission,
            who.backbone,
            who.untrained,
            record.environment.device_name,
            who.submission_sha256,
            who.task_sha256,
            who.backbone_sha256,
            tuple(episode.target for episode in record.episodes),
        )
        groups[group].append(record)
    return groups


def _badge(badges: Sequence[Badge]) -> str:
    """One failure taints all seeds of a row; otherwise how many of them were run again."""
    verified = badges.count("verified")
    if "failed verification" in badges:
        return "failed verification"
    if verified in (0, len(badges)):
        return badges[0]
    return f"{verified} of {len(badges)} verified"


def _row(
    group: _Group, records: Sequence[Record], badges: Mapping[Identity, Badge]
) -> tuple[tuple[object, ...], list[str]]:
    """Where the row stands, and its cells; the seeds of a group are pooled."""
    backbone = escape(group.backbone) + (" (untrained)" if group.untrained else "")
    device = escape(group.device_name)
    badge = _badge([badges.get(record.identity, "self-reported") for record in records])
    targets = max(record.summary.targets for record in records)
    start = [escape(group.task), escape(group.submission), backbone, str(targets)]
    start += [str(len(records))]
    bad = [record for record in records if record.status != "ok"]
    if bad:
        rank = 2 if any(record.status == "failed" for record in bad) else 1
        said = f"{bad[0].status}: {escape(bad[0].reason)}"
        return (group.task, rank, 0.0, group), [*start, said, *[""] * 5, device, badge]
    episodes = [episode for record in records for episode in record.episodes]
    measures = [episode.measures for episode in episodes if episode.measures]
    costs = [episode.cost for episode in episodes if episode.cost]
    by_target: dict[str, list[Counts]] = defaultdict(list)
    for episode in episodes:
        if episode.measures is not None:
            by_target[episode.target].append(episode.measures.counts)
    low, high = d_prime_interval(list(by_target.values()))
    d_prime = mean(m.d_prime for m in measures)
    added = max(cost.parameters_added for cost in costs)
    changed = max(cost.parameters_changed for cost in costs)
    opaque = max(cost.parameters_opaque for cost in costs)
    declared = {n for record in records if (n := record.declared_parameters) is not None}
    cells = [
        f"{d_prime:.2f} [{low:.2f}, {high:.2f}]",
        f"{mean(m.criterion for m in measures):+.2f}",
        f"{mean(m.d_a for m in measures):.2f}",
        f"{added:,} + {changed:,}"
        + (f" ({opaque:,} not in tensors)" if opaque else "")
        + "".join(f" (declared {n:,})" for n in sorted(declared - {added + changed})),
        f"{median(cost.adaptation_seconds for cost in costs):.3f}",
        f"{median(cost.adaptation_seconds / cost.pass_seconds for cost in costs):.2f}",
        device,
        badge,
    ]
    return (group.task, 0, -d_prime, group), [*start, *cells]
