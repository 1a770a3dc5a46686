"""Destinations of lines. `base` is the contract, `registry` finds a sink by its type."""
