"""The compiled module that looks through blocks of lines, where it is installed: `telemetryd-scan`.

It is only faster. Each of its users has the same in Python beside it, which is what it must agree
with, and asks for `compiled` at every block.
"""

from __future__ import annotations

from typing import Final, Protocol

_API: Final = 1
"""Of the functions below, as they are. A module with another number is not used."""


class Scanner(Protocol):
    """The functions of `telemetryd_scan`."""

    API: int
    KIND: str
    """The vectors it uses: `avx2`, or `baseline` for those that every processor has."""

    def count_lines(self, data: bytes, /) -> int:
        r"""Return how many lines `data` has; 0 when one may be blank: it begins with \n or \r."""

    def find_lines(
        self, data: bytes, marks: tuple[bytes, ...], names: tuple[bytes, ...], /
    ) -> list[tuple[int, int]]:
        """Return where each line of `data` that holds one of `marks` starts and ends, in order.

        With `names`, which all begin with one of `marks`, lines that have one of them as the value
        of a member `type`; without, lines that open and close as a JSON object does. Raises
        ValueError for more than 16 of either, or one of less than two bytes.
        """


def _load() -> Scanner | None:
    try:
        import telemetryd_scan  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return telemetryd_scan if telemetryd_scan.API == _API else None


compiled: Scanner | None = _load()
