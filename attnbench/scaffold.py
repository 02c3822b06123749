"""A new submission, from the templates beside this file."""

from __future__ import annotations

import re
from pathlib import Path

from attnbench.errors import AttnbenchError

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PLACEHOLDER = "@NAME@"


def new(name: str, parent: Path = Path(".")) -> Path:
    """Create the folder `parent`/`name` with a submission that runs as it is; returns the folder.

    Raises AttnbenchError where the name is not one, or something of that name is already there.
    """
    if not _NAME.fullmatch(name):
        raise AttnbenchError(
            f"{name!r} cannot be a submission's name: letters, digits, _ and - are allowed, "
            "the first a letter or digit, 64 at most"
        )
    folder = parent / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise AttnbenchError(f"{folder} is already there; choose another name") from None
    except OSError as error:
        raise AttnbenchError(f"{folder} cannot be created: {error.strerror}") from None
    for template in sorted(_TEMPLATES.glob("*.txt")):
        content = template.read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
        # `submission.py.txt`: no tool takes a template for a module of attnbench.
        (folder / template.stem).write_text(content, encoding="utf-8")
    return folder
