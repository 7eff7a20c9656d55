"""`crdtcache demo`: the package's main job on real input, in front of your eyes, with a verdict at the end.

In the order of reading: `regions` (the world), `script` (what happens when), `analysis` and `traffic` (the work),
`lines` (how processes talk), `relay` (the network, with delays and cuts), `ledger` (what is owed), `witness` (what
a process saw), `service` (a process with a `Node` in it), `verdict`, `figures`, `board`, `crew` (child
processes), `conductor` (plays the script), `run` (the command).

Decision: separate processes over real sockets, watched only through the public API. One process with several
nodes would start faster and prove less: one interpreter, one clock, nothing that SIGKILL could take away.
"""
