"""`python -m documentation WHAT…`: write the generated files of the documentation anew."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nbformat

from documentation import formats, notebooks, readme, walkthrough

_ROOT = Path(__file__).parents[1]


def write_schemas() -> None:
    """Write the JSON Schemas of all formats to `docs/schemas/`."""
    for name in formats.FORMATS:
        path = _ROOT / "docs" / "schemas" / f"{name}.schema.json"
        path.write_text(formats.schema_text(name), encoding="utf-8")


def write_readme() -> None:
    """Write the README's table of results, from `leaderboard.md`."""
    path = _ROOT / "README.md"
    board = (_ROOT / "leaderboard.md").read_text(encoding="utf-8")
    path.write_text(readme.with_table(path.read_text(encoding="utf-8"), board), encoding="utf-8")


def write_tutorials() -> None:
    """Run the tutorials, and write the outputs of their commands into them."""
    for path in sorted((_ROOT / "docs" / "tutorials").glob("*.md")):
        with tempfile.TemporaryDirectory() as folder:
            text = walkthrough.with_outputs(path.read_text(encoding="utf-8"), Path(folder))
        path.write_text(text, encoding="utf-8")


def write_notebooks() -> None:
    """Run the notebooks, and write their outputs into them."""
    for path in sorted((_ROOT / "docs" / "notebooks").glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = notebooks.run(path, Path(folder))
        nbformat.write(notebook, path)


_WRITERS = {
    "schemas": write_schemas,
    "readme": write_readme,
    "tutorials": write_tutorials,
    "notebooks": write_notebooks,
}


def main() -> None:
    """Run the writers that the command line names; all by default."""
    parser = argparse.ArgumentParser(prog="python -m documentation", description=__doc__)
    parser.add_argument(
        "what", nargs="*", choices=[*_WRITERS, []], help="what to write; all by default"
    )
    for name in parser.parse_args().what or _WRITERS:
        _WRITERS[name]()


if __name__ == "__main__":
    main()
