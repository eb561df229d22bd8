"""Measurements: each module prints what one thing costs, with `python -m bench.NAME`."""
