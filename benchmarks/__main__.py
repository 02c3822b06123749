"""`python -m benchmarks`: see `benchmarks.commands`, and `benchmarks.gpu.command` for `gpu`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # `gpu` runs where typer, pytest and pydantic are missing, so nothing else may be imported first.
    if sys.argv[1:2] == ["gpu"]:
        from benchmarks.gpu.command import main as main_of_gpu

        sys.exit(main_of_gpu(sys.argv[2:]))
    from benchmarks.commands import main

    main()
