"""Measurements that anyone can reprint: `python -m bench.ingest`, `python -m bench.framing`."""
