"""The table of exploits in `docs/trust.md`: run this file to write it anew."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.exploit_judge import EXPLOITS, Exploit

PAGE = Path(__file__).parents[1] / "docs" / "trust.md"
BLOCK = re.compile(r"(<!-- exploits: .+? -->\n)(.*?)(<!-- end of exploits -->)", re.DOTALL)
RULES = {
    "clock": "The clock",
    "labels": "The labels",
    "state": "From one episode to the next",
    "parameters": "What is counted",
    "channel": "The channel",
    "faults": "Faults",
}


def exploit_tables() -> str:
    """Return a table for each rule, with a line for each exploit.

    The outcome is the same at both levels of isolation, because both are tested for it.
    """
    exploits = [Exploit.read(name) for name in EXPLOITS]
    lines = []
    for rule, title in RULES.items():
        lines += [f"| {title} | `process` | `bwrap` |", "|---|---|---|"]
        for exploit in exploits:
            if exploit.rule == rule:
                link = f"[{Path(exploit.name).name}](../tests/exploits/{exploit.name}.py)"
                summary = " ".join(exploit.summary.split())
                lines.append(f"| {link}: {summary} | {exploit.outcome} | {exploit.outcome} |")
        lines.append("")
    return "\n".join(lines)


def test_page_lists_every_exploit_with_its_outcome() -> None:
    block = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert block is not None
    assert block[2] == exploit_tables(), "run `python tests/test_trust.py`"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    updated = BLOCK.sub(lambda block: block[1] + exploit_tables() + block[3], text)
    PAGE.write_text(updated, encoding="utf-8")
