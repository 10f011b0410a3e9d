"""Real sessions and real nodes on a network, on threads and in time that are simulated. A run is a function of its seed.

`Simulation` is the way in. It needs greenlet: ``pip install sparkps[testing]``.
"""

from __future__ import annotations

from sparkps.testing.simulation.simulation import NetworkFaults, Running, SimulatedClient, Simulation

__all__ = ["NetworkFaults", "Running", "SimulatedClient", "Simulation"]
