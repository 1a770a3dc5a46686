"""The arithmetic of a fleet: `python -m bench.scale`.

`packing` measures what one environment sends, `fleet` multiplies it, `prices` and `quotas` are what
AWS asks and allows, `report` writes the tables of docs/scale.md.
"""
