"""Which chunk goes first when space is short: pure data structures, the same in the store and in the
simulator."""
