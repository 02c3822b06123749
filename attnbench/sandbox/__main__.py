"""The entry point of the fork server: the judge runs `python -m attnbench.sandbox DESCRIPTOR`."""

from __future__ import annotations

import os
import socket
import sys
import tempfile

from attnbench.isolation.scratch import Scratch
from attnbench.wire.channel import Channel


def main(descriptor: int) -> None:
    """Serve the judge until it closes its end of the socket.

    Args:
        descriptor: the file descriptor of this end.
    """
    with Scratch() as scratch:
        # On import, torch creates a cache folder for its compiler. Put that into the scratch folder.
        os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = str(scratch.folder)
        from attnbench.sandbox.fork_server import serve_forks

        serve_forks(Channel(socket.socket(fileno=descriptor)), scratch)


if __name__ == "__main__":
    main(int(sys.argv[1]))
