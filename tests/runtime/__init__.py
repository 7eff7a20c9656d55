"""The runtime over real loopback sockets, and its parts by hand."""
