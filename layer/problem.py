"""The error that ends a build: one line that says what is missing and what to do."""

from __future__ import annotations


class BuildError(Exception):
    """The layer can't be built; the text is for the person at the terminal."""
