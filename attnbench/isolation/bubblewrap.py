"""bubblewrap: the fork server and its workers in a file system and network of their own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.isolation import visible_paths


def sandbox_command(readable: Sequence[Path], hidden: Sequence[Path]) -> list[str]:
    """Return the command line prefix that runs a program in the sandbox.

    In the sandbox there is no network and no other process. Everything is read-only except a
    private, empty `/tmp`, which disappears with the sandbox.

    Args:
        readable: files and folders that are visible there under their own paths.
        hidden: paths inside them that cannot be opened there, except what is readable inside one.

    Raises:
        AttnbenchError: if bubblewrap is not installed.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise AttnbenchError(
            "--isolation bwrap needs bubblewrap, which is not installed: "
            "`apt-get install bubblewrap`, or use --isolation process"
        )
    line = [bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    line += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in readable:
        line += ["--ro-bind", str(path), str(path)]
    for device in visible_paths.devices():
        if device.exists() and device.name.startswith("nvidia"):
            line += ["--dev-bind", str(device), str(device)]
    for path in hidden:
        # Opening it raises PermissionError, so a hidden folder differs from one that has been renamed.
        # If it holds something readable, it can be passed through but not listed.
        inside = [readable_path for readable_path in readable if readable_path.is_relative_to(path)]
        line += ["--perms", "0111" if inside else "0000", "--tmpfs", str(path)]
        for readable_path in inside:
            line += ["--ro-bind", str(readable_path), str(readable_path)]
    return [*line, "--chdir", "/tmp", "--"]
