"""`python -m attnbench`."""

from __future__ import annotations

from attnbench.cli.main import main

main()
