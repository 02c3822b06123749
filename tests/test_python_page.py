"""The page about Python and its notebook show the same code, which runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def _code_of_notebook() -> list[str]:
    notebook = json.loads((DOCS / "python.ipynb").read_text())
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def test_the_notebook_has_the_code_of_the_page() -> None:
    page = (DOCS / "python.md").read_text()
    assert _code_of_notebook() == re.findall(r"```python\n(.*?)\n```\n", page, re.DOTALL)


def test_the_code_runs_from_top_to_bottom(tmp_path: Path) -> None:
    program = "\n".join(_code_of_notebook())
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("records/mini/noisy-mnist/attention@*.json"))
