"""`attnbench new`: a new submission, made from the templates beside this file."""

from __future__ import annotations

import re
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.resources import submissions_folder
from attnbench.submission import shipped_submissions

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PLACEHOLDER = "@NAME@"
# The author in the template of the manifest.
PLACEHOLDER_AUTHOR = "Your Name"


def new(name: str, parent: Path = Path(".")) -> Path:
    """Create the folder `parent`/`name` with a submission that runs, and return the folder.

    Args:
        name: the name of the submission and of its folder.
        parent: where to create the folder; created if needed.

    Raises:
        AttnbenchError: if the name is not valid or that of a shipped submission, or something of
            that name exists already.
    """
    if not _NAME.fullmatch(name):
        raise AttnbenchError(
            f"{name!r} is not a valid name for a submission: use up to 64 letters, digits, _ and -, "
            "starting with a letter or digit"
        )
    if name in shipped_submissions():
        raise AttnbenchError(
            f"there is a submission {name} in {submissions_folder()}, which a folder of that name "
            "would hide; choose another name"
        )
    folder = parent / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise AttnbenchError(f"{folder} exists already; choose another name") from None
    except OSError as error:
        raise AttnbenchError(f"{folder} cannot be created: {error.strerror}") from None
    for template in sorted(_TEMPLATES.glob("*.txt")):
        content = template.read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
        # The templates end in `.txt` so that no tool mistakes them for modules of attnbench.
        (folder / template.stem).write_text(content, encoding="utf-8")
    return folder
