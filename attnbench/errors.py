"""The two exceptions that attnbench shares with its users and with submissions."""


class AttnbenchError(Exception):
    """A mistake of the user, or data or software that is missing.

    The message says what was wrong, where, and what to do. The command line prints it without a
    traceback and exits with code 2.
    """


class NotApplicable(Exception):
    """Raised by a submission's `adapt` if the method makes no sense for this backbone or target.

    Such an episode is reported as `not applicable`, not as a failure.
    """
