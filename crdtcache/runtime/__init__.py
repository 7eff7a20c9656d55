"""The runtime: the only files that know a socket, a thread or a clock. It decides nothing about the protocol."""
