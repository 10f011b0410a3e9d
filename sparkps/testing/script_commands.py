"""The commands of scripted scenarios (`scripts`): one function each, whose docstring says how it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sparkps.consistency import ASP, BSP, SSP, Consistency
from sparkps.errors import InvalidInput
from sparkps.testing.simulation.simulation import NetworkFaults, SimulatedClient, Simulation

if TYPE_CHECKING:
    from sparkps.testing.scripts import Script

Command = TypeVar("Command", bound=Callable[..., str])

#: Commands to the whole simulation: take the script and words, return what came of it.
WORLD: dict[str, Callable[..., str]] = {}
#: Commands of a client: take the client and words, in the client's process.
CLIENT: dict[str, Callable[..., str]] = {}


def command(function: Command) -> Command:
    """Add a command to the simulation, of the function's name."""
    WORLD[function.__name__.rstrip("_")] = function
    return function


def client_command(function: Command) -> Command:
    """Add a command of clients, of the function's name."""
    CLIENT[function.__name__.rstrip("_")] = function
    return function


# ---- the simulation's commands -----------------------------------------------------------------------------------------


@command
def nodes(script: Script, count: str, replication: str = "1", seed: str = "0", **faults: str) -> str:
    """``nodes 3 [replication=1] [seed=0] [drop=0.1 delay=0.05 duplicate=0.1 reorder=0.1]``: start a tier."""
    given: dict[str, Any] = {name: float(value) for name, value in faults.items()}
    network = NetworkFaults(**{"delay": 0.0, **given})
    script.begin(Simulation(int(seed), int(count), network, replication=int(replication), traced=True))
    return "ok"


@command
def sparse(script: Script, name: str, dim: str = "1", group: str = "") -> str:
    """``sparse w [dim=1] [group=g]``: create a sparse table of float64."""
    script.simulation.sparse_table(name, int(dim), group=group)
    return "ok"


@command
def dense(script: Script, name: str, size: str) -> str:
    """``dense d 10``: create a dense table of float64."""
    script.simulation.dense_table(name, (int(size),))
    return "ok"


@command
def group(script: Script, name: str, ranks: str, consistency: str = "bsp") -> str:
    """``group g 2 [bsp | asp | ssp3]``: admit a worker group."""
    kinds: dict[str, Consistency] = {"bsp": BSP(), "asp": ASP()}
    if consistency.startswith("ssp"):
        kinds[consistency] = SSP(int(consistency[3:]))
    script.groups[name] = script.simulation.group(name, int(ranks), kinds[consistency])
    return "ok"


@command
def advance(script: Script, seconds: str) -> str:
    """``advance 10``: let simulated seconds pass."""
    script.advance(float(seconds))
    return "ok"


@command
def kill(script: Script, *who: str) -> str:
    """``kill node 1``, ``kill a``: as SIGKILL."""
    node = _node(who)
    if node is None:
        script.simulation.kill_client(who[0])
        script.advance(0.0)
    else:
        script.simulation.kill_node(node)
    return "ok"


@command
def stop(script: Script, *who: str) -> str:
    """``stop node 1``: as SIGSTOP."""
    script.simulation.stop_node(_needed(who))
    return "ok"


@command
def continue_(script: Script, *who: str) -> str:
    """``continue node 1``: as SIGCONT."""
    script.simulation.continue_node(_needed(who))
    return "ok"


@command
def partition(script: Script, *words: str, seconds: str = "", hold: str = "") -> str:
    """``partition node 0, a | node 1, b [seconds=5] [hold=yes]``: cut the network between groups; one is cut from all others."""
    sides = [[name.strip() for name in side.split(",")] for side in " ".join(words).split("|")]
    script.simulation.partition(*sides, seconds=float(seconds) if seconds else None, holds=bool(hold))
    return "ok"


@command
def heal(script: Script) -> str:
    """``heal``: end all cuts."""
    script.simulation.heal()
    return "ok"


@command
def dump(script: Script, table: str, *who: str) -> str:
    """``dump w [node 1]``: the rows of a sparse table as they lie in the primaries, or in one node."""
    rows = script.simulation.rows(table, _node(who))
    return " ".join(f"{key}={','.join(map(_number, row))}" for key, row in rows.items()) or "empty"


@command
def status(script: Script) -> str:
    """``status``: the epoch, and of each node what became of it and how many buckets it leads and copies."""
    tier = script.simulation.tier
    lines = [f"epoch {tier.epoch}"]
    for number, host in enumerate(tier.hosts):
        state = "dead" if host.dead else "stopped" if host.stopped else "up"
        known = ", known to be dead" if number in tier.dead else ""
        leads = sum(row[0] == number for row in tier.placement)
        copies = sum(number in row[1:] for row in tier.placement)
        lines.append(f"node {number} is {state}{known}: leads {leads}, copies {copies}")
    return "\n".join(lines)


@command
def clocks(script: Script, name: str) -> str:
    """``clocks g``: the last clock that each rank has ticked, at each node that lives."""
    number, lines = script.groups[name].group, []
    for service in script.simulation.tier.living:
        held = service.state.groups.get(number)
        ranks = held.report() if held is not None else {}
        told = ", ".join(f"rank {rank} at {report['clock']}" for rank, report in sorted(ranks.items()))
        lines.append(f"node {service.state.node}: {told or 'none'}")
    return "\n".join(lines)


@command
def trace(script: Script, *words: str) -> str:
    """``trace [words | words]``: what was sent and taken since the last trace; only lines that have these words."""
    lines = script.simulation.trace[script.traced :]
    script.traced = len(script.simulation.trace)
    wanted = [one.strip() for one in " ".join(words).split("|")]
    return "\n".join(line.strip() for line in lines if any(one in line for one in wanted)) or "nothing"


# ---- commands of clients -----------------------------------------------------------------------------------------------


@client_command
def push(client: SimulatedClient, table: str, *rows: str) -> str:
    """``push w 1=0.5 2=1,2``: gradients, for the table's optimizer."""
    client.table(table).push(*_rows(rows))
    return "ok"


@client_command
def add(client: SimulatedClient, table: str, *rows: str) -> str:
    """``add w 1=0.5``."""
    client.table(table).add(*_rows(rows))
    return "ok"


@client_command
def assign(client: SimulatedClient, table: str, *rows: str) -> str:
    """``assign w 1=0.5``."""
    client.table(table).assign(*_rows(rows))
    return "ok"


@client_command
def pull(client: SimulatedClient, table: str, *keys: str) -> str:
    """``pull w 1 2``."""
    rows = client.table(table).pull(np.array([int(key) for key in keys], np.int64))
    return " ".join(f"{key}={','.join(map(_number, row))}" for key, row in zip(keys, rows.tolist(), strict=True))


@client_command
def add_dense(client: SimulatedClient, table: str, *values: str) -> str:
    """``add_dense d 1 2 3``: a value for each element."""
    client.table(table).add(np.array([float(value) for value in values]))
    return "ok"


@client_command
def pull_dense(client: SimulatedClient, table: str) -> str:
    """``pull_dense d``."""
    return " ".join(map(_number, client.table(table).pull().ravel().tolist()))


@client_command
def call(client: SimulatedClient, table: str, function: str, **options: str) -> str:
    """``call w scale alpha=2``: a server function."""
    answer = client.table(table).call(function, **{name: float(value) for name, value in options.items()})
    return "ok" if answer is None else _number(float(np.asarray(answer).ravel()[0]))


@client_command
def join(client: SimulatedClient, group: str, rank: str, incarnation: str = "1") -> str:
    """``join g 0 [2]``: take a rank over, as its first incarnation or a later one."""
    specs = [one for groups in client.tier.opened for one in groups if one.spec.name == group]
    if not specs:
        raise InvalidInput(f"There must be a worker group {group!r}.")
    clock, state = client.join(specs[0].spec, int(rank), int(incarnation))
    return f"at clock {clock}" + (f", state {state.decode()}" if state is not None else "")


@client_command
def tick(client: SimulatedClient, state: str = "") -> str:
    """``tick [state]``: the clock is over."""
    client.session.tick(state.encode() if state else None)
    return "ok"


@client_command
def finish(client: SimulatedClient, result: str = "") -> str:
    """``finish [result]``: the rank's function has returned."""
    client.session.finish(result.encode() if result else None)
    return "ok"


def _rows(pairs: tuple[str, ...]) -> tuple[Any, Any]:
    """Keys and rows of ``key=value,value``."""
    split = [pair.partition("=") for pair in pairs]
    values = [[float(value) for value in rest.split(",")] for _, _, rest in split]
    return np.array([int(key) for key, _, _ in split], np.int64), np.array(values)


def _node(who: tuple[str, ...]) -> int | None:
    """The number of ``node 1``; None: it is no node."""
    return int(who[1]) if who[:1] == ("node",) else None


def _needed(who: tuple[str, ...]) -> int:
    node = _node(who)
    if node is None:
        raise InvalidInput(f"It must be a node, as in `node 1`. Got {' '.join(who)!r} instead.")
    return node


def _number(value: float) -> str:
    return f"{value + 0.0:.12g}"


__all__ = ["CLIENT", "WORLD", "client_command", "command"]
