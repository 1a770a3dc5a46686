"""The common tools of bench: cores, charts, statistics, progress."""
