"""Builds the self-contained Lambda layer: run `build.py`. Nothing of this ships."""
