"""The fork server's process: `python -m attnbench.sandbox DESCRIPTOR`, as the judge starts it."""

from __future__ import annotations

import os
import socket
import sys
import tempfile

from attnbench.isolation.scratch import Scratch
from attnbench.wire.channel import Channel


def main(descriptor: int) -> None:
    """Serve the judge at the other end of the socket `descriptor` until it closes that end."""
    with Scratch() as scratch:
        # torch creates a cache folder for its compiler on import: let that be in the scratch folder.
        os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = str(scratch.folder)
        from attnbench.sandbox.fork_server import serve_forks

        serve_forks(Channel(socket.socket(fileno=descriptor)), scratch)


if __name__ == "__main__":
    main(int(sys.argv[1]))
