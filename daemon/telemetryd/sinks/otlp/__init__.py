"""The `otlp` sink: `sink` is the door."""
