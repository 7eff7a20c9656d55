"""The simulator: the very same core, real bytes, virtual time, and every fault that a network of services meets.

A run is a function of its plan, and a plan is a function of a scenario and a seed. Read in this order: `engine`
(time), `rand` (luck), `clocks` and `network` (the world), `adapter` (a node in it), `plan`, `faults` and
`workload` (what happens), `oracle` and `checks` (what must hold), `world` (a run), `scenarios`, `shrink`, `bugs`;
then `record`, `plots` and `report` (what a run looked like).

Decision: the world is simulated and the code is not: `sim` imports `crdtcache.core` and nothing above it, and
nothing in the core knows that it is being simulated.
"""
