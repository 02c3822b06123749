"""How the terminal shows the audit of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from attnbench.records.audit import Audit

_MAX_FAILURES = 5


def print_audit(audit: Audit) -> None:
    """Print an audit: its targets and images, both results, and what their difference shows."""
    from attnbench.text import printable

    count = len(audit.targets)
    typer.echo(
        f"Audit with the secret seed {audit.seed}: {count} target{'s' * (count != 1)}, "
        f"{audit.new_images:.0%} new images"
    )
    for name, recorded, new in (
        ("d′ ", audit.d_prime_recorded, audit.d_prime),
        ("d_a", audit.d_a_recorded, audit.d_a),
    ):
        typer.echo(f"  {name}  recorded {recorded:5.2f}, audit {new:5.2f}")
    typer.echo(
        f"  difference in d_a {audit.difference:+.2f} [{audit.low:+.2f}, {audit.high:+.2f}]: "
        f"{audit.conclusion}"
    )
    for failure in audit.failures[:_MAX_FAILURES]:
        typer.echo(f"  failed: {printable(failure)}")
    if len(audit.failures) > _MAX_FAILURES:
        typer.echo(f"  … ({len(audit.failures)} failures)")
