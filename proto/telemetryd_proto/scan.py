"""The compiled scanner of blocks of lines, if it is installed: `telemetryd-scan`.

It is faster, and nothing else. Each user has the same in Python, which the scanner must agree with,
and reads `compiled` for each block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

_API: Final = 4
"""The number of these functions. A module with another number is not used."""


if TYPE_CHECKING:  # each class costs time at the start
    from collections.abc import Callable
    from typing import Any, Protocol

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

        def add_rows(
            self,
            objects: list[Any],
            heads: list[bytes],
            at: int,
            usual: tuple[
                type[Any], Callable[[Any], Any], dict[str, dict[Any, bytes]], tuple[str, ...]
            ],
            known: dict[Any, Any],
            parts: list[bytes],
            facts: list[Any],
            /,
        ) -> int:
            """Add the rows of usual lines of logs from `at` on; return where another one is.

            A row of the flat schema has eight parts (`telemetryd.core.rows`), of which the last
            three are left empty. Its facts are the first of `known`.

            Args:
                objects: of decoded lines, whose records are JSON that a decoder has seen.
                heads: the first part of each row.
                at: the first line to look at.
                usual: the type of the objects of usual lines; what decodes their records; for each
                    type of event the second part of a row, by a level as it is spelled; and the
                    names of the members type, record, level, request id, message and error type.
                known: of invocations, by their ids as they are spelled: a tuple of facts, the
                    fourth part behind a text, and the fourth part before attributes.
                parts: the rows so far.
                facts: what is known of each line so far.

            Raises TypeError for an argument of another type.

            """


def _load() -> Scanner | None:
    try:
        import telemetryd_scan  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return telemetryd_scan if telemetryd_scan.API == _API else None


compiled: Scanner | None = _load()
