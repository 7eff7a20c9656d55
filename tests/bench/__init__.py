"""Figures of this tree beside those of its peers: `python -m tests.bench` (needs the extra `bench`).

All competitors of a line run in one process, or in processes of one kind, taking turns, and a line's verdict is
a ratio: absolute figures move with the machine. Not collected by pytest: a test that asserts times asserts
what else the machine was doing.
"""
