"""Puts the functions that a start and the first invocations run into one place of the executable.

The launcher has the kernel read that place at once (`contents.toml`, [early]). Otherwise a start
from a cold disk would wait for a page here and a page there. `start.txt` has the functions' names,
as `make layer-profile` has found them; it fits both architectures.
"""

from __future__ import annotations

from layer.cache import HERE

FILE = HERE / "start.txt"
SECTION = ".text.start"
"""The name of that place in the executable."""
# Under which of these the compiler puts a function depends on its counts.
_KINDS = (".text", ".text.hot", ".text.unlikely")
# A start also runs small functions that are not counted: those of the compiler's library, and of
# the static part of the C library.
_UNCOUNTED = ("*crt1.o", "*libc_nonshared.a:*", "*libcompiler_rt.a:*")


def script() -> str:
    """Return what tells the linker so, in its own language."""
    functions = "\n".join(f"{kind}.{name}" for name in FILE.read_text().split() for kind in _KINDS)
    uncounted = "\n".join(f"{files}(.text .text.*)" for files in _UNCOUNTED)
    content = f"*(\n{functions}\n)\n{uncounted}"
    return f"SECTIONS {{ {SECTION} : {{\n{content}\n}} }} INSERT BEFORE .text;\n"
