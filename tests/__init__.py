"""The tests mirror the package, room by room; `tests/style` holds the house rules, `tests/bench` the figures."""
