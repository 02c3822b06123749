"""From templates to pages: whatever a record says is text in them, and never markup."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attnbench.cli.text import printable
from attnbench.leaderboard.standings import Interval

_STATIC = ("site.css", "site.js")
_DOI = re.compile(
    r"\b(?:doi:\s*|https?://doi\.org/)(10\.\d{4,9}/[^\s\"<>,;]{1,200})", re.IGNORECASE
)
_URL = re.compile(r"https?://[^\s\"<>]{1,500}")


def environment() -> Environment:
    """Jinja with every value escaped, and what pages need to show figures."""
    made = Environment(
        loader=PackageLoader("attnbench.leaderboard.site", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "line": printable,
        "figure": figure,
        "ends": ends,
        "integer": integer,
        "seconds": seconds,
        "linked": linked,
        "shell": lambda text: shlex.quote(printable(text)),
    }
    return made


def static_files() -> Iterator[tuple[str, bytes]]:
    """The style sheet and the script, by their names in the site."""
    folder = files("attnbench.leaderboard.site").joinpath("static")
    for name in _STATIC:
        yield name, folder.joinpath(name).read_bytes()


def file_name(text: str, *more: str) -> str:
    """A name that is safe on every file system and in every address, another one for other text."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "page"
    return f"{slug}-{hashlib.sha256(chr(0).join([text, *more]).encode()).hexdigest()[:8]}"


def figure(value: float | None, form: str = ".2f") -> str:
    """A number, – where there is none."""
    return "–" if value is None else format(value, form).replace("-", "−")


def ends(value: Interval | None, form: str = ".2f") -> str:
    """An interval, nothing where there is none."""
    return "" if value is None else f"[{figure(value[0], form)}, {figure(value[1], form)}]"


def integer(value: int | None) -> str:
    """A whole number in groups of three."""
    return "–" if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """A time with three digits."""
    return "–" if value is None else f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def linked(text: str) -> Markup:
    """Text in which DOIs and http(s) addresses, and nothing else, lead somewhere."""
    text = printable(text)
    parts = []
    start = 0
    for found in sorted(
        [*_DOI.finditer(text), *_URL.finditer(text)], key=lambda each: each.start()
    ):
        if found.start() < start:
            continue
        shown = found[0].rstrip(".,;)")
        doi = _DOI.match(shown)
        address = f"https://doi.org/{doi[1]}" if doi else shown
        if not is_web(address):
            continue
        parts += [Markup.escape(text[start : found.start()])]
        parts += [Markup('<a href="{}" rel="nofollow noopener">{}</a>').format(address, shown)]
        start = found.start() + len(shown)
    return Markup("").join([*parts, Markup.escape(text[start:])])


def is_web(address: str) -> bool:
    """Whether an address is one of the web."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def source_text(content: bytes, limit: int = 100_000) -> str:
    """A source file as it can be shown: lines kept, control and direction marks made visible."""
    text = content[:limit].decode("utf-8", "replace").replace("\r\n", "\n").expandtabs(4)
    shown = "".join(each if each == "\n" or each.isprintable() else "�" for each in text)
    return shown + ("\n… (cut)" if len(content) > limit else "")
