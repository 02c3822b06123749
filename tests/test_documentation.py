"""The documentation site builds without warnings, and what is generated for it is up to date."""

from __future__ import annotations

import html
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import attnbench
from attnbench import adaptation
from attnbench.records.record import Record
from documentation import formats, readme
from documentation.links import Links

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning would have ended the build: `strict` is set in mkdocs.yml."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    # Not `--quiet`, with which warnings do not count.
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "REPOSITORY_URL": "",
        # Nothing is downloaded: a connection would end in an error, and a warning.
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, re.sub(r"^INFO.*\n", "", done.stderr, flags=re.MULTILINE)
    return folder


class _Page(HTMLParser):
    """The links, the files to load, and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if "src" in values:
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") == "stylesheet":
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    paths = [path for path in site.rglob("*.html") if path.name != "404.html"]
    return {path: _Page(path.read_text("utf-8")) for path in paths}


def test_the_site_has_a_page_for_each_entry_of_its_navigation(pages: dict[Path, _Page]) -> None:
    assert len(pages) > 30
    text = "\n".join(path.name for path in pages)
    for name in ("your-own-method", "command-line", "is-my-method-better", "contributing"):
        assert f"{name}.html" in text


def test_every_link_of_the_site_leads_to_a_page_and_an_anchor(pages: dict[Path, _Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (path.parent / unquote(target)).resolve() if target else path
            assert file.exists(), f"{path.name} links to {link}"
            if anchor and file in pages:
                assert unquote(anchor) in pages[file].anchors, f"{path.name} links to {link}"


def test_the_site_loads_nothing_from_elsewhere(pages: dict[Path, _Page]) -> None:
    for path, page in pages.items():
        for loaded in page.loaded:
            assert not re.match(r"(\w+:)?//", loaded), f"{path.name} loads {loaded}"
            assert (path.parent / loaded.partition("?")[0]).exists(), f"{path.name}: {loaded}"


def _words(text: str) -> str:
    """The words of a text with or without HTML, separated by single spaces."""
    visible = re.sub(r"<[^>]*>", "", text)
    return " ".join(re.findall(r"[A-Za-z]+", html.unescape(visible)))


def test_the_reference_has_every_command_and_every_public_name(
    site: Path, pages: dict[Path, _Page]
) -> None:
    text = (site / "reference" / "command-line.html").read_text("utf-8")
    helped = subprocess.run(
        [sys.executable, "-m", "attnbench", "--help"], capture_output=True, text=True
    ).stdout
    commands = re.findall(r"^  ([a-z-]+)  ", helped.partition("Commands")[2], re.MULTILINE)
    assert len(commands) > 10
    for command in commands:
        assert f"attnbench {command}" in text
    assert "ATTNBENCH_TRACK" in text
    for module, name in ((attnbench, "python-api"), (adaptation, "toolkit")):
        anchors = pages[site / "reference" / f"{name}.html"].anchors
        public = [each for each in module.__all__ if not each.startswith("_")]
        assert {f"{module.__name__}.{each}" for each in public} <= anchors
        words = _words((site / "reference" / f"{name}.html").read_text("utf-8"))
        for each in public:
            first_line, *_ = (inspect.getdoc(getattr(module, each)) or each).splitlines()
            assert _words(first_line) in words, f"{name} does not describe {each}"


@pytest.mark.parametrize("name", formats.FORMATS)
def test_schema_files_are_up_to_date(name: str) -> None:
    path = ROOT / "docs" / "schemas" / f"{name}.schema.json"
    assert path.read_text("utf-8") == formats.schema_text(name), (
        f"{path.name} is out of date; update it with `python -m documentation schemas`"
    )


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_key_of_a_format_is_described(name: str) -> None:
    schema = formats.json_schema(name)
    for title, table in {name: schema, **schema.get("$defs", {})}.items():
        for key, value in table["properties"].items():
            assert value.get("description") or "const" in value, f"{title}.{key}"


def _files(name: str) -> Iterator[Path]:
    patterns = {
        "submission": "submissions/*/submission.toml",
        "task": "tasks/*.toml",
        "adaptation": "tasks/adaptation/*.toml",
        "backbone": "examples/backbones/*.toml",
    }
    yield from sorted(ROOT.glob(patterns[name]))


def _content(path: Path) -> Any:
    return tomllib.loads(path.read_text("utf-8"))


_IN_TOML = sorted(formats.FORMATS.keys() - {"record"})


@pytest.mark.parametrize("name", _IN_TOML)
def test_the_files_of_the_repository_fit_their_schemas(name: str) -> None:
    validator = jsonschema.Draft202012Validator(formats.json_schema(name))
    files = list(_files(name))
    assert files
    for path in files:
        problems = [error.message for error in validator.iter_errors(_content(path))]
        assert not problems, f"{path}: {problems}"


@pytest.mark.parametrize("name", _IN_TOML)
def test_schemas_refuse_unknown_keys(name: str) -> None:
    validator = jsonschema.Draft202012Validator(formats.json_schema(name))
    content = _content(next(_files(name)))
    assert not validator.is_valid(content | {"unknown": 1})


def test_a_record_fits_its_schema(make_record: Callable[..., Record]) -> None:
    validator = jsonschema.Draft202012Validator(formats.json_schema("record"))
    for record in (make_record(), make_record(reason="out of memory")):
        content = json.loads(record.model_dump_json())
        validator.validate(content)
        assert not validator.is_valid(content | {"unknown": 1})
        del content["identity"]["task"]
        assert not validator.is_valid(content)


def test_a_track_needs_its_keys_or_an_adaptation_file() -> None:
    validator = jsonschema.Draft202012Validator(formats.json_schema("task"))
    content = _content(ROOT / "tasks" / "imagenet-standard.toml")
    del content["tracks"]["mini"]["adaptation"]
    assert not validator.is_valid(content)


def test_the_table_of_the_readme_is_up_to_date() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    board = (ROOT / "leaderboard.md").read_text("utf-8")
    assert text == readme.with_table(text, board), (
        "the README's table is out of date; update it with `python -m documentation readme`"
    )


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_links_out_of_the_site_lead_to_the_repository_or_become_text() -> None:
    pages = {"docs/a.md": "a.md", "docs/x/b.md": "x/b.md", "README.md": "index.md"}
    text = "[b](x/b.md#c) [code](../attnbench/cli) `[d](e)` [web](https://a.b) ![p](gone.png)"
    links = Links(pages, "https://host/repo", lambda path: path == "attnbench/cli")
    new, missing = links.rewrite(text, "docs/a.md")
    assert new == (
        "[b](x/b.md#c) [code](https://host/repo/attnbench/cli) `[d](e)` [web](https://a.b) "
        "[p](https://host/repo/docs/gone.png)"
    )
    assert missing == ["gone.png"]
    new, _ = Links(pages, "", lambda _: True).rewrite(
        "[code](../../README.md) [y](../../z)", "docs/x/b.md"
    )
    assert new == "[code](../index.md) y"
