"""The `emf` sink: `sink` is the door."""
