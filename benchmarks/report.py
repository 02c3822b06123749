"""Benchmarks of adaptation as tables for docs/performance.md.

python benchmarks/report.py vgg16.json…
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any


def tables(report: dict[str, Any]) -> str:
    """The machine and the versions, and a row per contender of each race."""
    machine = report["machine_info"]
    races = [each["extra_info"] | {"name": each["name"]} for each in report["benchmarks"]]
    races = [race for race in races if "passes" in race]
    passes = [seconds for race in races for seconds in race["pass_seconds"]]
    lines = [
        f"### {races[0]['backbone']}",
        "",
        f"{machine['cpu'].get('brand_raw', machine['machine'])}, {machine['cpu']['count']} cores; "
        f"Python {machine['python_version']}; a pass takes {statistics.median(passes):.2f} s "
        f"({min(passes):.2f} to {max(passes):.2f}).",
        "",
        "| race | method | passes | lowest and highest round | loss at the end |",
        "|---|---|---|---|---|",
    ]
    for race in races:
        for number, (method, took) in enumerate(race["passes"].items()):
            name = race["name"].removeprefix("test_") if number == 0 else ""
            lines.append(
                f"| {name} | {method} | {statistics.median(took):.2f} | {min(took):.2f} to "
                f"{max(took):.2f} ({len(took)}) | {race['losses'][method]:.3f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join(tables(json.loads(Path(name).read_text())) for name in sys.argv[1:]))
