"""Adapters for other people's frameworks: each file is thin, and only whoever imports it needs the framework."""
