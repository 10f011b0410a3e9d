'''Scripted scenarios: text files of commands, each with the outcome that is expected, run on a simulated tier.

A script is blocks of commands, a line ``----``, and what comes of them, up to the next empty line (as etcd's raft tests its protocol;
the format is that of Go's ``datadriven``)::

    nodes 2
    sparse w
    ----
    ok
    ok

    a: push w 1=2.0
    pull w 1 2
    ----
    a: ok
    1=-2 2=0

`run` carries the commands out and returns the script with the outcome that it found. A command is one function; see `WORLD` and
`CLIENT`, and `command` and `client_command`, which add to them. A name and a colon before a command of a client say which client; each
has a session of its own. A client that has to wait is left waiting, and says what came of it when it has.

``nodes N [replication=1] [seed=0] [drop=0] [delay=0] [duplicate=0] [reorder=0]`` comes first.
'''

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sparkps.errors import InvalidInput, SparkPSError
from sparkps.specs import GroupSpec
from sparkps.testing.script_commands import CLIENT, WORLD, client_command, command
from sparkps.testing.simulation.simulation import Running, SimulatedClient, Simulation

#: Between the commands of a block and what comes of them.
SEPARATOR = "----"

#: Simulated seconds after which a command of a client is left waiting.
PATIENCE = 5.0

#: The client of commands that name none.
DEFAULT_CLIENT = "client"

@dataclass
class ScriptBlock:
    """Commands, and what is expected of them."""

    commands: list[str]
    expected: list[str]

    def __str__(self) -> str:
        return "\n".join([*self.commands, SEPARATOR, *self.expected]) + "\n"


def blocks_of(text: str) -> list[ScriptBlock | str]:
    """The blocks of a script, and its comments and empty lines between them.

    Raises
    ------
    InvalidInput
        A block without its separator.
    """
    found: list[ScriptBlock | str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            found.append(line)
            continue
        commands = [line]
        for more in lines:
            if more == SEPARATOR:
                break
            commands.append(more)
        else:
            raise InvalidInput(f"A block must have a line {SEPARATOR!r} after its commands. Got none after {commands[0]!r}.")
        found.append(ScriptBlock(commands, list(iter(lambda: next(lines, "").rstrip(), ""))))
        found.append("")
    return found[:-1] if found and found[-1] == "" else found


@dataclass
class ClientJob:
    """A command of a client."""

    run: Callable[[SimulatedClient], str]
    outcome: str | None = None


class _Worker:
    """A client that carries commands out, one after the other."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.name = name
        self.waiting: deque[ClientJob] = deque()
        #: Those that were left waiting.
        self.left: deque[ClientJob] = deque()
        self._simulation = simulation
        self.running: Running[None] = simulation.start(self._serve, name)

    def _serve(self, client: SimulatedClient) -> None:
        while True:
            while not self.waiting:
                client.process.pause(1e12, light=True)
            job = self.waiting.popleft()
            try:
                job.outcome = job.run(client)
            except (SparkPSError, ValueError, KeyError, TypeError) as error:
                job.outcome = _told(error)

    def do(self, job: ClientJob) -> str:
        """Carry a command out; what came of it, or that it waits."""
        self.waiting.append(job)
        self.running.process.wake()
        pass_time(self._simulation, PATIENCE, lambda: job.outcome is not None)
        if job.outcome is None:
            self.left.append(job)
            return "waits"
        return job.outcome

    def news(self) -> Iterator[str]:
        """What came of commands that were left waiting."""
        while self.left and self.left[0].outcome is not None:
            yield str(self.left.popleft().outcome)


class Script:
    """A simulation under commands.

    Attributes
    ----------
    simulation : Simulation
    groups : dict of str to GroupSpec
        Worker groups by name.
    """

    def __init__(self) -> None:
        self.groups: dict[str, GroupSpec] = {}
        self._stack = ExitStack()
        self._simulation: Simulation | None = None
        self._workers: dict[str, _Worker] = {}
        self.traced = 0

    @property
    def simulation(self) -> Simulation:
        """The simulation, once `nodes` was said."""
        if self._simulation is None:
            raise InvalidInput("A script must begin with `nodes N`.")
        return self._simulation

    def begin(self, simulation: Simulation) -> None:
        """Use a simulation until the end of the script."""
        if self._simulation is not None:
            raise InvalidInput("`nodes` must be said once.")
        self._simulation = self._stack.enter_context(simulation)

    def advance(self, seconds: float) -> None:
        """Let simulated seconds pass."""
        pass_time(self.simulation, seconds)

    def close(self) -> None:
        """The script is over."""
        self._stack.close()

    def carry_out(self, line: str) -> list[str]:
        """Carry one command out: the lines that come of it."""
        name, colon, rest = line.partition(":")
        named = bool(colon) and " " not in name
        words = (rest if named else line).split()
        try:
            if named or words[0] in CLIENT:
                outcome = self._by_client(name if named else DEFAULT_CLIENT, words)
            else:
                outcome = _found(WORLD, words[0])(self, *_arguments(words[1:])[0], **_arguments(words[1:])[1])
        except (SparkPSError, ValueError, KeyError, TypeError) as error:
            outcome = _told(error)
        said = [f"{name}: {one}" if named else one for one in outcome.splitlines()]
        return [*said, *self._news()]

    def _by_client(self, name: str, words: list[str]) -> str:
        function = _found(CLIENT, words[0])
        given, options = _arguments(words[1:], pairs=True)
        worker = self._workers.get(name)
        if worker is None or worker.running.ended:
            worker = self._workers[name] = _Worker(self.simulation, name)
        return worker.do(ClientJob(lambda client: function(client, *given, **options)))

    def _news(self) -> list[str]:
        return [f"{worker.name}: {news}" for worker in self._workers.values() for news in worker.news()]


def _found(commands: dict[str, Callable[..., str]], name: str) -> Callable[..., str]:
    if name not in commands:
        raise InvalidInput(f"A command must be one of {', '.join(sorted(commands))}. Got {name!r} instead.")
    return commands[name]


def _arguments(words: list[str], pairs: bool = False) -> tuple[list[str], dict[str, str]]:
    """Words, and options ``name=value``; pairs of a key, which is a number, and a value are words."""
    options = [word for word in words if "=" in word and not (pairs and word.partition("=")[0].lstrip("-").isdecimal())]
    return [word for word in words if word not in options], dict(word.split("=", 1) for word in options)


def _told(error: BaseException) -> str:
    """An error in one line: its kind and first sentence."""
    text = str(error).replace("\n", " ")
    return f"{type(error).__name__}: {text.partition('. ')[0].rstrip('.')}"


def pass_time(simulation: Simulation, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
    """Let simulated time pass, or until something is done."""
    until = simulation.now + seconds
    simulation.clockwork.run(until, done)
    if not done():
        simulation.clockwork.now = until


def run(text: str) -> str:
    """Carry a script out; the script with what came of it.

    Examples
    --------
    >>> print(run('''nodes 1
    ... sparse w
    ... add w 1=2.5
    ... pull w 1 2
    ... ----
    ... '''))
    nodes 1
    sparse w
    add w 1=2.5
    pull w 1 2
    ----
    ok
    ok
    ok
    1=2.5 2=0
    <BLANKLINE>
    """
    script, parts = Script(), list[str]()
    try:
        for part in blocks_of(text):
            if isinstance(part, ScriptBlock):
                outcome = [line for one in part.commands for line in script.carry_out(one)]
                parts.append(str(ScriptBlock(part.commands, outcome)).rstrip("\n"))
            else:
                parts.append(part)
    finally:
        script.close()
    return "\n".join(parts) + "\n"


def check(path: Path, rewrite: bool = False) -> None:
    """Assert that a script's outcome is as its file says; or let the file say what it is.

    Parameters
    ----------
    path : Path
    rewrite : bool
        Write the outcome into the file.
    """
    text = path.read_text()
    found = run(text)
    if rewrite and found != text:
        path.write_text(found)
    elif found != text:
        wanted, got = text.splitlines(), found.splitlines()
        at = next((n for n, (one, other) in enumerate(zip(wanted, got, strict=False)) if one != other), min(len(wanted), len(got)))
        raise AssertionError(
            f"{path.name}, line {at + 1}: expected {wanted[at : at + 1]}, got {got[at : at + 1]}. The whole outcome:\n{found}"
        )


__all__ = ["CLIENT", "WORLD", "Script", "ScriptBlock", "blocks_of", "check", "client_command", "command", "run"]
