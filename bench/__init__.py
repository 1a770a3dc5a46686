"""Measurements that anyone can reprint: `python -m bench`; see README.md."""
