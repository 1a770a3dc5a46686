"""Errors of runs that do not count, or can't be made."""


class LossError(Exception):
    """Lines are missing, or the books do not show them: the run does not count."""


class AbsentError(Exception):
    """The run needs something that is not on this machine. The text says what."""
