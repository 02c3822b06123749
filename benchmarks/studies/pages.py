"""Blocks of a page that studies write."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def write_block(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->` in a page.

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
    page.write_text(f"{before}{start}{text.strip()}\n{end}{after}", "utf-8")
