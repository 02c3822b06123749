"""The libraries that a submission names: installed distributions, and the modules they provide.

Nothing is imported here. The fork server imports the modules (`attnbench.sandbox.libraries`).
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Collection
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    distributions,
    packages_distributions,
)

from attnbench.errors import AttnbenchError
from attnbench.text import did_you_mean

# The name of a distribution, as the Python Packaging User Guide specifies it.
NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$"


def require_library(name: str) -> None:
    """Check that a distribution is installed and may be named.

    Args:
        name: the name of a distribution, such as `scikit-learn`. Case does not matter, nor do `-`,
            `_` and `.`.

    Raises:
        AttnbenchError: if it is not installed, or is attnbench itself. The message says what to
            write instead.
    """
    if _normalised(name) == "attnbench":
        raise AttnbenchError("attnbench is always there: remove it from `libraries`")
    try:
        distribution(name)
    except PackageNotFoundError:
        raise AttnbenchError(_not_installed(name)) from None


def modules_of(name: str, sources: Collection[bytes]) -> list[str]:
    """Return the top-level modules of an installed distribution that a program mentions, sorted.

    A distribution may also have modules such as `tests`, which nobody means to import.

    Args:
        name: the name of the distribution.
        sources: the contents of the program's files.
    """
    return [
        module
        for module in sorted(_top_level_modules(distribution(name)))
        if any(re.search(rb"\b%s\b" % module.encode(), source) for source in sources)
    ]


def imported_modules(package: str, sources: Collection[bytes]) -> list[str]:
    """Return the modules of a package that the import statements of a program name, sorted.

    Args:
        package: the name of the package.
        sources: the contents of the program's files.
    """
    # `attnbench.__main__` and its like are programs.
    dotted = rb"%s(?:\.(?!__)\w+)*" % package.encode()
    statement = re.compile(rb"^[ \t]*(?:from|import)[ \t]+(%s)\b" % dotted, re.MULTILINE)
    names = {name.decode() for source in sources for name in statement.findall(source)}
    return sorted(names)


def _top_level_modules(installed: Distribution) -> set[str]:
    """Return the modules that a distribution declares, or else those among its files."""
    declared = installed.read_text("top_level.txt")
    if declared is not None:
        names: set[str | None] = set(declared.split())
    else:
        paths = installed.files or []
        names = {
            path.parts[0] if len(path.parts) > 1 else inspect.getmodulename(path) for path in paths
        }
    return {name for name in names if name is not None and name.isidentifier()}


def _not_installed(name: str) -> str:
    if name in sys.stdlib_module_names:
        return f"{name} is part of Python: remove it from `libraries`"
    if providers := packages_distributions().get(name):
        return (
            f"{name} is a module of {providers[0]}; `libraries` names distributions: "
            f'write "{providers[0]}"'
        )
    meant = did_you_mean(_normalised(name), sorted({_normalised(d.name) for d in distributions()}))
    return f"{name} is not installed: {meant or f'pip install {name}'}"


def _normalised(name: str) -> str:
    """Return the normal form of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
