"""The template environment of the site. Text from records stays text and never becomes markup."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attnbench.leaderboard.wording import describe_standing, describe_tests
from attnbench.statistics.intervals import Interval
from attnbench.text import printable

_STATIC = ("site.css", "site.js", "charts.js", "compare.js")
_DOI = re.compile(
    r"\b(?:doi:\s*|https?://doi\.org/)(10\.\d{4,9}/[^\s\"<>,;]{1,200})", re.IGNORECASE
)
_URL = re.compile(r"https?://[^\s\"<>]{1,500}")


def environment() -> Environment:
    """Return a Jinja environment that escapes every value, with the filters of the templates."""
    jinja = Environment(
        loader=PackageLoader("attnbench.leaderboard.site", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters |= {
        "line": printable,
        "number": number,
        "interval": interval,
        "ranks": ranks,
        "standing": describe_standing,
        "tests": describe_tests,
        "integer": integer,
        "seconds": seconds,
        "linked": linked,
        "breakable": breakable,
        "shell": lambda text: shlex.quote(printable(text)),
    }
    return jinja


def static_files() -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of the style sheet and the scripts."""
    folder = files("attnbench.leaderboard.site").joinpath("static")
    for name in _STATIC:
        yield name, folder.joinpath(name).read_bytes()


def file_name(text: str, *more: str) -> str:
    """Return a name that is safe in every file system and URL, different for different texts."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "page"
    return f"{slug}-{hashlib.sha256(chr(0).join([text, *more]).encode()).hexdigest()[:8]}"


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number with a proper minus sign; None becomes a dash."""
    return "–" if value is None else format(value, form).replace("-", "−")


def interval(value: Interval | None, form: str = ".2f") -> str:
    """Format an interval; None becomes an empty string."""
    return "" if value is None else f"[{number(value[0], form)}, {number(value[1], form)}]"


def ranks(value: tuple[int, int] | None) -> str:
    """Format the best and the worst rank; None becomes a dash."""
    if value is None:
        return "–"
    best, worst = value
    return f"{best}" if best == worst else f"{best} to {worst}"


def integer(value: int | None) -> str:
    """Format a whole number with thousands separators; None becomes a dash."""
    return "–" if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """Format a time in seconds with three significant digits; None becomes a dash."""
    return "–" if value is None else f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def linked(text: str) -> Markup:
    """Return text as markup in which DOIs and http(s) URLs, and nothing else, are links."""
    text = printable(text)
    parts = []
    start = 0
    for match in sorted(
        [*_DOI.finditer(text), *_URL.finditer(text)], key=lambda match: match.start()
    ):
        if match.start() < start:
            continue  # inside an earlier match
        shown = match[0].rstrip(".,;)")
        doi = _DOI.match(shown)
        url = f"https://doi.org/{doi[1]}" if doi else shown
        if not is_web_url(url):
            continue
        parts += [Markup.escape(text[start : match.start()])]
        parts += [Markup('<a href="{}" rel="nofollow noopener">{}</a>').format(url, shown)]
        start = match.start() + len(shown)
    return Markup("").join([*parts, Markup.escape(text[start:])])


def breakable(name: str) -> Markup:
    """Return a name as markup that may be broken into lines after each underscore."""
    return Markup("_<wbr/>").join(name.split("_"))


def is_web_url(url: str) -> bool:
    """Return whether this is a valid http or https URL with a host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def source_text(content: bytes, limit: int = 100_000) -> str:
    """Return a source file as text that is safe to show.

    Lines are kept. Control characters and marks of text direction become replacement characters,
    because they could make code look different from what it does.
    """
    text = content[:limit].decode("utf-8", "replace").replace("\r\n", "\n").expandtabs(4)
    shown = "".join(
        character if character == "\n" or character.isprintable() else "�" for character in text
    )
    return shown + ("\n… (truncated)" if len(content) > limit else "")
