"""Modules that take the place of larger ones of the standard library, in the layer only."""
