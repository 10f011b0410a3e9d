"""The way of simulated processes to the coordinator, which does as it is told; what a real `ControlClient` is to real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparkps.errors import DeadlineExceeded, SparkPSError, UnknownTable
from sparkps.specs import TableSpec
from sparkps.testing.simulation.clockwork import Process
from sparkps.wire.messages import control as c

if TYPE_CHECKING:
    from sparkps.testing.simulation.tier import SimulatedTier

#: How the coordinator is called in partitions.
COORDINATOR = "coordinator"


class SimulatedInquiry:
    """A question to the coordinator that nobody waits for."""

    def __init__(self) -> None:
        self._answer: Any = None

    def settle(self, answer: Any) -> None:
        """The coordinator has answered."""
        self._answer = answer

    def answer(self) -> Any:
        """The answer, or None."""
        return self._answer

    def close(self) -> None:
        """Not wanted any more."""


class SimulatedControl:
    """One process's way to the coordinator.

    Parameters
    ----------
    tier : SimulatedTier
    process : Process
    """

    #: Simulated seconds until the coordinator has answered.
    DELAY = 0.02

    def __init__(self, tier: SimulatedTier, process: Process) -> None:
        self._tier = tier
        self._process = process

    def request(self, message: Any, timeout: float | None = None) -> Any:
        """Ask and wait."""
        answers: list[Any] = []
        self._send(message, answers.append)
        until = self._tier.clockwork.now + (30.0 if timeout is None else timeout)
        while not answers:
            left = until - self._tier.clockwork.now
            if left <= 0:
                raise DeadlineExceeded(f"The coordinator must answer {type(message).__name__}. It is silent.")
            self._process.pause(left, light=True)
        if isinstance(answers[0], SparkPSError):
            raise answers[0]
        return answers[0]

    def ask(self, message: Any) -> SimulatedInquiry:
        """Ask, and look later."""
        inquiry = SimulatedInquiry()
        self._send(message, inquiry.settle)
        return inquiry

    def _send(self, message: Any, settle: Callable[[Any], None]) -> None:
        def answered(answer: Any) -> None:
            settle(answer)
            self._process.wake()

        heard = self._tier.hears_at(self._tier.clockwork.now + self.DELAY)
        self._tier.clockwork.at(heard, self._arrive, message, answered)

    def _arrive(self, message: Any, answered: Callable[[Any], None]) -> None:
        """What is asked across a cut waits for its end."""
        tier = self._tier
        if tier.wires.is_cut(self._process.name, COORDINATOR):
            tier.clockwork.after(self.DELAY, self._arrive, message, answered)
        else:
            tier.take_question(self._process.name, message, answered)


#: Tells who asked what came of it.
Answered = Callable[[Any], None]


def _attach(tier: SimulatedTier, message: c.Attach, answered: Answered) -> None:
    answered(tier.attached())


def _create(tier: SimulatedTier, message: c.CreateTable, answered: Answered) -> None:
    made: list[TableSpec] = []

    def done() -> None:
        answered(c.TableCreated(0, made[0] if made else tier.tables[message.spec.name]))

    made.append(tier.create(message.spec, done))


def _drop(tier: SimulatedTier, message: c.DropTable, answered: Answered) -> None:
    tier.tables.pop(message.name, None)
    tier.command(c.DropTable(0, message.name, message.table), lambda: answered(c.Accepted(0)))


def _find(tier: SimulatedTier, message: c.FindTable, answered: Answered) -> None:
    spec = tier.tables.get(message.name)
    answered(c.TableCreated(0, spec) if spec else UnknownTable(f"Table {message.name!r} must exist.", table=message.name))


#: What the coordinator does with each question; add what else it shall understand.
ANSWERS: dict[type[Any], Callable[[SimulatedTier, Any, Answered], None]] = {
    c.Attach: _attach,
    c.CreateTable: _create,
    c.DropTable: _drop,
    c.FindTable: _find,
}

__all__ = ["ANSWERS", "COORDINATOR", "SimulatedControl", "SimulatedInquiry"]
