"""telemetryd as an external Lambda extension.

    boot      register, listen, subscribe, next: raw sockets, almost nothing imported; or what a
              launcher hands over that has done all that
    early     the few settings needed before `next`
    http      HTTP/1.1 as far as the three APIs on loopback need it
    starter   the name of the script that started us, when the platform does not know ours
    run       everything after: the daemon, the invocations, the shutdown
    fallback  what is left when anything fails: read, count, discard, poll `next`

Signals that ask for the end are held back from the first moment on, and taken up where there is
somebody to act on them: by `run`, or by `fallback`.

What is to be done when, `core.lifecycle` says: `run` and `fallback` execute it.

`boot`, `early`, `http`, `starter` and `fallback` run before, or without, everything else: they may
import only built-in modules, and `core.lifecycle`, which imports nothing
(`tests/integration/extension/test_boot_imports.py`).
"""

import _signal  # type: ignore[import-not-found]  # the stubs know only `signal`

ENDING_SIGNALS = {
    getattr(_signal, name): name
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM")
}
"""Numbers and names of those that ask for the end: deliver, print the ledger, leave."""


def hold_signals() -> None:
    """Have `ENDING_SIGNALS` wait: by default they end the process, the ledger untold."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ENDING_SIGNALS)


def release_signals() -> None:
    """Take those that wait, and all from now on: their handlers are set."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, ENDING_SIGNALS)
