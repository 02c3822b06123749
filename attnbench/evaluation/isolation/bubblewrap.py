"""bubblewrap: the template and its workers in a file system and network of their own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.evaluation.isolation import reach


def command(readable: Sequence[Path], hidden: Sequence[Path]) -> list[str]:
    """What to put before a command so that it runs in the sandbox.

    No network, no other process in sight, everything read-only but a private, empty `/tmp`, which is
    gone with the sandbox. Raises AttnbenchError where bubblewrap is not installed.

    Args:
        readable: files and folders to be seen there, at their own paths.
        hidden: what is empty there although it lies in one of these.
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
    for device in reach.devices():
        if device.exists() and device.name.startswith("nvidia"):
            line += ["--dev-bind", str(device), str(device)]
    for path in hidden:
        # Not merely empty: whoever opens it gets a PermissionError, which tells it from a folder that
        # has been renamed.
        line += ["--perms", "0000", "--tmpfs", str(path)]
    return [*line, "--chdir", "/tmp", "--"]
