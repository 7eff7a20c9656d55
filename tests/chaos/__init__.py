"""Real processes over real sockets, cut off, stopped and killed: what the issues promise, measured on one machine.

`python -m pytest tests/chaos` runs short sizes; FULL_SIZES=1 runs those of the acceptance lists. The figures are
in pytest's summary either way. `python -m tests.chaos.latency` times a write until others see it.
"""
