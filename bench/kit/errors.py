"""Why a run does not count, or can't be made."""


class LossError(Exception):
    """Lines are missing, or the books do not show them: the run does not count."""


class AbsentError(Exception):
    """What the run needs is not on this machine; the text says what."""
