"""What confines a submission. docs/trust.md says what each level of isolation stops.

`process` runs each request in a fresh process, confined as far as the kernel lets an unprivileged
process confine itself. `bwrap` does the same inside bubblewrap, with a file system, process IDs and
network of its own.
"""
