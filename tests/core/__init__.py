"""Tests of the core: replicas joined in memory (`world`), each rule by a directed test, each bug once."""
