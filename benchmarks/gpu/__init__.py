"""What only a GPU can answer, in one command: `python -m benchmarks gpu --out DIR`.

There is one module for each part, from `methods` (a) to `prediction` (f). The machine needs Python and
PyTorch and no network; `wheels` takes along what else is needed.
"""
