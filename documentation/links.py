"""Links of pages: pages of the repository link to files, and pages of the site to pages."""

from __future__ import annotations

import os.path
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# A fenced block or inline code, in which nothing is a link; or a link with its text.
_LINK = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)"
    r"|(?P<bang>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Links:
    """How links of the repository's pages are written on the site.

    Attributes:
        pages: the path of each page and file on the site by its path in the repository.
        repository: the address of the repository's files, or "" if it has none.
        exists: whether a path in the repository exists.
    """

    pages: Mapping[str, str]
    repository: str
    exists: Callable[[str], bool]

    def rewrite(self, text: str, source: str) -> tuple[str, list[str]]:
        """Rewrite the links of a page.

        A link to a file that is not on the site leads to the repository. If the repository has no
        address, only the link's text is left.

        Args:
            text: the page in Markdown.
            source: its path in the repository.

        Returns:
            The text, and the targets that do not exist.
        """
        missing: list[str] = []

        def replace(match: re.Match[str]) -> str:
            target, hash_sign, anchor = (match["target"] or "").partition("#")
            if match["code"] or not target or "://" in target or target.startswith("mailto:"):
                return match[0]
            path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
            page = self.pages.get(path)
            if page is not None:
                start = os.path.dirname(self.pages[source]) or "."
                new = os.path.relpath(page, start).replace(os.sep, "/")
                return f"{match['bang']}[{match['text']}]({new}{hash_sign}{anchor})"
            if not self.exists(path):
                missing.append(target)
            if self.repository:
                return f"[{match['text']}]({self.repository}/{path}{hash_sign}{anchor})"
            return match["text"]

        return _LINK.sub(replace, text), missing
