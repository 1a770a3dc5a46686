"""The `http` sink: `sink` is the door."""
