# `telemetryd_proto.scan.Scanner` says what these are.

API: int
KIND: str

def count_lines(data: bytes, /) -> int: ...
def find_lines(
    data: bytes, marks: tuple[bytes, ...], names: tuple[bytes, ...], /
) -> list[tuple[int, int]]: ...
def split_array(body: bytes | bytearray, at: int, /) -> tuple[bytes, int] | None: ...
