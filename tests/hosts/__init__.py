"""Real hosts: the servers and frameworks that people run, with real worker processes."""
