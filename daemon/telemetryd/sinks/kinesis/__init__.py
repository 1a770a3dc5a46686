"""The `kinesis` sink: `sink` is the door."""
