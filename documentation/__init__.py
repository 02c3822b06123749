"""What generates parts of the documentation: reference pages, JSON Schemas, the README's table.

This package is not in the wheel. `mkdocs build` uses it through `documentation/hooks.py`, and
`python -m documentation` writes the generated files that are committed.
"""
