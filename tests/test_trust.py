"""`docs/trust.md` shows what the exploits' files say; run this file to write its table anew."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.test_exploits import EXPLOITS, Exploit

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


def table() -> str:
    """A line for each exploit, by rule; both levels are tested for the same outcome."""
    exploits = [(Exploit.read(name), Path(name).name) for name in EXPLOITS]
    lines = []
    for rule, title in RULES.items():
        lines += [f"| {title} | `process` | `bwrap` |", "|---|---|---|"]
        for exploit, name in exploits:
            if exploit.rule == rule:
                does = " ".join(exploit.does.split())
                link = f"[{name}](../tests/exploits/{rule}/{name}.py)"
                lines.append(f"| {link}: {does} | {exploit.outcome} | {exploit.outcome} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_shows_every_exploit_with_what_comes_of_it() -> None:
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[2] == table(), "run `python tests/test_trust.py`"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + table() + m[3], text), encoding="utf-8")
