"""Blocks of a page that studies write."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def write_block(page: Path, name: str, text: str) -> None:
    """Write a page with another block; see `with_block`."""
    page.write_text(with_block(page, name, text), "utf-8")


def with_block(page: Path, name: str, text: str) -> str:
    """Return a page with new lines between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Args:
        page: the Markdown file.
        name: the name of the block.
        text: the new lines.

    Raises:
        ValueError: if the page has no such block.
    """
    before, start, rest = page.read_text("utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not start or not end:
        raise ValueError(f"{page} has no block {name}")
    return f"{before}{start}{text.strip()}\n{end}{after}"
