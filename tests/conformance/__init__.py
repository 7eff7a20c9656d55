"""One plan, two worlds: the simulator's, and the real runtime's on trio. Both must come to the same end."""
