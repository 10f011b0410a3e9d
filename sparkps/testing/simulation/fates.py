"""What becomes of the messages of a schedule: at random from a seed, or as a script says."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import log

from sparkps.testing.simulation.wires import Copy, Post, ProcessLoss

#: Latency of a message that nothing happens to (simulated seconds).
LATENCY = 0.01


@dataclass(frozen=True)
class Weather:
    """How bad a network is: probabilities of each message, and times in simulated seconds."""

    loss: float = 0.0
    repeat: float = 0.0
    #: Arrives out of line.
    stray: float = 0.0
    #: Arrives so late that its client has long sent it again.
    straggle: float = 0.0
    #: Mean delay.
    delay: float = 0.05
    #: A repetition or a straggler comes up to so much later.
    late: float = 10.0


class Drawn:
    """Fates drawn from a seed.

    Parameters
    ----------
    rng : random.Random
    weather : Weather
    """

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self._random = rng.random
        self.weather = weather
        #: How many messages a process still sends before it is lost, and how that will be, by its name.
        self.fuses: dict[str, tuple[int, ProcessLoss]] = {}

    def loses(self, post: Post) -> ProcessLoss | None:
        """Whether the client's fuse has burnt down."""
        if post.client not in self.fuses:
            return None
        left, loss = self.fuses.pop(post.client)
        if not left:
            return loss
        self.fuses[post.client] = left - 1, loss
        return None

    def copies(self, post: Post) -> list[Copy]:
        """At random."""
        weather, random = self.weather, self._random
        drawn = random() - weather.loss
        if drawn < 0:
            return []
        stray = random() < weather.stray
        delay = LATENCY - log(1.0 - random()) * weather.delay
        if drawn < weather.repeat:
            return [Copy(delay, stray), Copy(delay + weather.late * random(), True)]
        if drawn < weather.repeat + weather.straggle:
            return [Copy(delay + weather.late * random(), True)]
        return [Copy(delay, stray)]


class Fault(Enum):
    """What a script may do to one message."""

    #: It never arrives.
    LOST = "lost"
    #: It arrives, and once more when its client would have sent it again twice.
    TWICE = "twice"
    #: Those sent in the next moment arrive before it.
    OVERTAKEN = "overtaken"
    #: It arrives when its client has long sent it again.
    LATE = "late"
    #: Its client is lost just before it is sent, and a successor starts.
    CRASH = "crash"
    #: So it seems, but the client goes on beside its successor.
    ZOMBIE = "zombie"


_ARRIVALS = {
    Fault.LOST: [],
    Fault.TWICE: [Copy(LATENCY), Copy(7.0, True)],
    Fault.OVERTAKEN: [Copy(0.5, True)],
    Fault.LATE: [Copy(7.0, True)],
}
_CLEAR = [Copy(LATENCY)]

_LOSSES = {Fault.CRASH: ProcessLoss.DIES, Fault.ZOMBIE: ProcessLoss.LINGERS}

#: What can happen to a message on its way, and to a client before it sends.
ON_THE_WAY, BEFORE_SENDING = tuple(_ARRIVALS), tuple(_LOSSES)


class Scripted:
    """Nothing happens but what a script says.

    Parameters
    ----------
    script : mapping of int to Fault
        By number of the message.
    """

    def __init__(self, script: Mapping[int, Fault]) -> None:
        self.script = dict(script)
        #: The messages so far, as (goes to a node, name of the client), by number.
        self.seen: list[tuple[bool, str]] = []

    def loses(self, post: Post) -> ProcessLoss | None:
        """If the script says so, once."""
        fault = self.script.get(post.number)
        if fault not in _LOSSES:
            return None
        del self.script[post.number]
        return _LOSSES[fault]

    def copies(self, post: Post) -> Sequence[Copy]:
        """As the script says."""
        self.seen.append((post.up, post.client))
        fault = self.script.get(post.number)
        return _CLEAR if fault is None else _ARRIVALS.get(fault, _CLEAR)
