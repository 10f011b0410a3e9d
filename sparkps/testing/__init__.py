"""A fault kit, for tests of programs that use sparkps and for its own: networks and processes that fail on demand.

`simulation` : real clients and real nodes on a simulated network, in simulated time; a seed is a run, bit for bit.

`failing_files`: files that fail.
"""
