"""The code of the page about Python runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_the_code_runs_from_top_to_bottom(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)\n```\n", page, re.DOTALL))
    assert program.count("attnbench.") >= 8
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("records/mini/noisy-mnist/attention@*.json"))
