"""The mutants: each breaks one stated invariant by a change of a few characters."""

from __future__ import annotations

from tests.mutants.checkpoints import CHECKPOINTS
from tests.mutants.clocks import CLOCKS, RANKS
from tests.mutants.moves import MOVES
from tests.mutants.mutant import Mutant
from tests.mutants.replicas import REPLICAS
from tests.mutants.session_ends import SESSIONS_ANEW
from tests.mutants.takeovers import TAKEOVERS
from tests.mutants.writes import WRITES

MUTANTS: tuple[Mutant, ...] = (*RANKS, *CLOCKS, *WRITES, *SESSIONS_ANEW, *REPLICAS, *TAKEOVERS, *MOVES, *CHECKPOINTS)

__all__ = ["MUTANTS", "Mutant"]
