"""Keeps the C library from returning memory to the kernel between two blocks.

Blocks of a megabyte are made and freed all the time. glibc returns the free end of the heap when it
is more than twice the largest chunk that it ever mapped by itself and freed (mallopt(3),
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD). With blocks of a read's size this happens nearly at once. The
next block then pays for new pages, with a fault and a clearing for each: a sixth of the CPU of a
line on its way to a file (docs/performance.md). One larger chunk, freed once, raises the limit; its
memory is never touched. On other C libraries this has no effect.
"""

from __future__ import annotations

from typing import Final

MOST_KEPT_BYTES: Final = 32 * 1024 * 1024
"""More than the queues hold in all but the worst of times."""


def keep_heap(most_bytes: int) -> None:
    """Let the heap keep up to `most_bytes` of free memory, for the blocks that are to come.

    What the environment asks of the C library (`MALLOC_TRIM_THRESHOLD_`) is left as it is.
    """
    bytes(min(most_bytes, MOST_KEPT_BYTES) // 2)  # made of zero pages, and freed at once
