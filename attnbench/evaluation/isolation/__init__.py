"""What keeps a submission from the evaluator; `docs/trust.md` says what each level stops.

`process`: a fresh process for each job, confined as far as the kernel lets an ordinary process confine
itself. `bwrap`: the same inside bubblewrap's file system, processes and network.
"""

from typing import Literal

Isolation = Literal["process", "bwrap"]
