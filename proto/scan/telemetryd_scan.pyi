# `telemetryd_proto.scan.Scanner` says what these are.

from collections.abc import Callable
from typing import Any

API: int
KIND: str

def count_lines(data: bytes, /) -> int: ...
def find_lines(data: bytes, marks: tuple[bytes, ...], /) -> list[tuple[int, int]]: ...
def find_events(
    data: bytes, marks: tuple[bytes, ...], names: tuple[bytes, ...], /
) -> tuple[list[bytes], list[int], int]: ...
def split_array(body: bytes | bytearray, at: int, /) -> tuple[bytes, int] | None: ...
def add_rows(
    objects: list[Any],
    heads: list[bytes],
    at: int,
    usual: tuple[type[Any], Callable[[Any], Any], dict[str, dict[Any, bytes]], tuple[str, ...]],
    known: dict[Any, Any],
    parts: list[bytes],
    facts: list[Any],
    /,
) -> int: ...
