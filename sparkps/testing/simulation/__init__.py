"""Real sessions and real nodes on a network, on threads and in time that are simulated. A run is a function of its seed.

It needs greenlet: ``pip install sparkps[testing]``.
"""
