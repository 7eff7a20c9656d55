"""Conversations of real replicas, written down: what was done, and every message and event that followed."""
