"""The compiled scanner of blocks of lines, if it is installed: `telemetryd-scan`.

It is faster, and nothing else. Each user has the same in Python, which the scanner must agree with,
and reads `compiled` for each block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

_API: Final = 3
"""The number of these functions. A module with another number is not used."""


if TYPE_CHECKING:  # each class costs time at the start
    from typing import Protocol

    class Scanner(Protocol):
        """The functions of `telemetryd_scan`."""

        API: int
        KIND: str
        """The vectors it uses: `avx2`, or `baseline` for those that every processor has."""

        def count_lines(self, data: bytes, /) -> int:
            r"""Return the number of lines; 0 if one begins with \n or \r, and may be blank."""

        def find_lines(self, data: bytes, marks: tuple[bytes, ...], /) -> list[tuple[int, int]]:
            """Return start and end of each line of `data` that has one of `marks`, in order.

            Only lines that open and close as a JSON object does. Raises ValueError for more than 16
            marks, or one of less than two bytes.
            """

        def find_events(
            self, data: bytes, marks: tuple[bytes, ...], names: tuple[bytes, ...], /
        ) -> tuple[list[bytes], list[int], int]:
            """Return the lines that have one of `names` as the value of a member `type`, in order.

            All names begin with one of `marks`. Also the start of each line, and how many more such
            lines there are that do not close as an object does. Raises ValueError as `find_lines`.
            """

        def split_array(self, body: bytes | bytearray, at: int, /) -> tuple[bytes, int] | None:
            r"""Return the records of an array as lines, and how many. The first begins at `at`.

            White space around a record is left out; a newline in it becomes a space, \r\n becomes
            two. None if the array is not closed, or followed by anything, or if it has a backslash
            outside a string. Values are not checked.
            """


def _load() -> Scanner | None:
    try:
        import telemetryd_scan  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return telemetryd_scan if telemetryd_scan.API == _API else None


compiled: Scanner | None = _load()
