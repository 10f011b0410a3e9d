"""A fault kit, for tests of programs that use sparkps and for its own: networks, processes and files that fail on demand.

================= ===========================================================================================================
`simulation`      real clients and real nodes on a simulated network, in simulated time; a seed is a run, bit for bit
`scripts`         scenarios as plain text with expected output, on the simulation
`processes`       find, kill, stop and continue the processes of a running tier
`relay`           a way between two processes that cuts, delays, throttles and drops connections
`relayed`         a tier that is wholly behind such relays
`failing_files`   a file system that fails at the call that a test names
================= ===========================================================================================================
"""
