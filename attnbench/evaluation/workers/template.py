"""The template process, as the evaluator starts it: this module with a descriptor as argument."""

from __future__ import annotations

import os
import socket
import sys
import tempfile

from attnbench.evaluation.channel import Channel
from attnbench.evaluation.workers.scratch import Scratch


def main(descriptor: int) -> None:
    """Serve the evaluator at the other end of the socket `descriptor` until it goes away."""
    with Scratch() as scratch:
        # torch makes a folder for its compiler when it is imported.
        os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = str(scratch.folder)
        from attnbench.evaluation.workers.forking import serve_forks

        serve_forks(Channel(socket.socket(fileno=descriptor)), scratch)


if __name__ == "__main__":
    main(int(sys.argv[1]))
