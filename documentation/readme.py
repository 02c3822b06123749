"""The README's table of results, an excerpt of `leaderboard.md`."""

from __future__ import annotations

import re

_START, _END = "<!-- leaderboard: written by `python -m documentation readme` -->\n", "<!-- end -->"
# One method of each family, in the order of docs/methods.md. The leaderboard has all.
_METHODS = (
    "none",
    "bias_only",
    "attention",
    "film",
    "last_layer",
    "linear_probe",
    "prototype",
    "lora",
    "bitfit",
    "full_finetune",
)
_COLUMNS = ("submission", "d_a", "d_a − bias_only", "d′", "c", "parameters", "passes")
_TRACK = "small"


def excerpt(board: str) -> str:
    """Return the summary of a track of a leaderboard, and some of its rows and columns as a table.

    Before them comes what the leaderboard says about records of earlier versions, if there are any.

    Args:
        board: the text of `leaderboard.md`.
    """
    section = board.partition(f"\n## {_TRACK}\n")[2].partition("\n## ")[0]
    rows = [_cells(line) for line in section.splitlines() if line.startswith("|")]
    header, _, *body = rows
    places = [header.index(column) for column in _COLUMNS]
    by_name = {row[header.index("submission")].replace("\\", ""): row for row in body}
    earlier = r"^(\d.* records? w.* made with an earlier version .*)$"
    summary = rf"^- \*\*{_TRACK}\*\*: (.*)$"
    lines = []
    for pattern in (earlier, summary):
        if found := re.search(pattern, board, re.MULTILINE):
            lines += [found[1], ""]
    lines += ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    for name in _METHODS:
        if name in by_name:
            cells = [by_name[name][place] for place in places]
            lines.append("| " + " | ".join([f"`{name}`", *cells[1:]]) + " |")
    return "\n".join(lines) + "\n"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def with_table(text: str, board: str) -> str:
    """Return the README with the table of a leaderboard.

    Args:
        text: the text of the README.
        board: the text of `leaderboard.md`.
    """
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError(f"the README lacks {_START.strip()} or {_END}")
    return before + start + "\n" + excerpt(board) + "\n" + end + after
