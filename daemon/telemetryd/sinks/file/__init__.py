"""The `file` sink: `sink` is the door."""
