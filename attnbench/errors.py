"""The two exceptions that are part of attnbench's vocabulary."""


class AttnbenchError(Exception):
    """A user's mistake, or something that is not there.

    The message names what was wrong, where, and what to do; the command line prints it without a
    traceback and exits with 2.
    """


class NotApplicable(Exception):
    """Raised by a submission's `adapt` where the method has no meaning for this backbone or target.

    Such an episode is reported as `not applicable`, not as a failure.
    """
