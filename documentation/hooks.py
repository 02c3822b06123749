"""Hooks of MkDocs: generated parts of pages, pages from outside `docs/`, notebooks, and links."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from documentation import command_line, formats, notebooks, python_api
from documentation.links import Links

_ROOT = Path(__file__).parents[1]
# Warnings of this logger end a strict build.
_LOG = logging.getLogger("mkdocs.hooks.attnbench")
# Pages of the site that do not lie in `docs/`, by their path in the repository.
_OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changes.md",
    "leaderboard.md": "standings.md",
    "examples/backbones/README.md": "examples-of-backbones.md",
}
_GENERATED = re.compile(r"^<!-- generated: (\S+) ?(.*?) -->$", re.MULTILINE)
_GENERATORS: dict[str, Callable[..., str]] = {
    "command-line": command_line.markdown,
    "format": formats.markdown,
    "python": python_api.markdown,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside `docs/`, and a page for each notebook."""
    for path, page in _OUTSIDE.items():
        text = (_ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        for new in _notebook_pages(file, config):
            files.append(new)
    return files


def _notebook_pages(file: File, config: MkDocsConfig) -> Iterator[File]:
    """Yield the page of a notebook, and its pictures."""
    path = Path(file.src_uri)
    text, pictures = notebooks.to_markdown(file.content_string, path.stem)
    text += f"\n[Download this notebook]({path.name})\n"
    yield File.generated(config, path.with_suffix(".md").as_posix(), content=text)
    for name, content in pictures.items():
        yield File.generated(config, path.with_name(name).as_posix(), content=content)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the generated parts of a page, and rewrite its links."""
    outside = {page: path for path, page in _OUTSIDE.items()}
    source = outside.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    pages = {f"docs/{file.src_uri}": file.src_uri for file in files} | _OUTSIDE
    repository = f"{config.repo_url}/blob/main" if config.repo_url else ""
    links = Links(pages, repository, lambda path: (_ROOT / path).exists())
    text, missing = links.rewrite(markdown, source)
    for target in missing:
        _LOG.warning("%s links to %s, which does not exist", source, target)
    return _GENERATED.sub(lambda match: _GENERATORS[match[1]](*match[2].split()), text)
