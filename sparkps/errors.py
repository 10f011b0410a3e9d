"""One exception tree for the whole package.

::

    SparkPSError
    ├── ConfigError                 a setting or an argument of PSContext is wrong
    ├── InvalidInput (ValueError)   keys, values, rows or names that a call refuses
    │   ├── TableMismatch           a table of that name exists with another shape
    │   └── NonFiniteValues         NaN or infinity in a push
    ├── UnknownTable (KeyError)     no table of that name, or it was dropped
    ├── ProtocolError               frames or a message that the codec refuses
    │   └── UnsendableValue         (also InvalidInput) a value that no message carries
    ├── TierError                   the tier could not do what was asked
    │   ├── NodeUnreachable         no answer from a node or the coordinator
    │   ├── ShardLost               the last replica of a bucket is gone
    │   ├── OutOfNodeMemory         a node has no memory for new rows, tables or requests
    │   ├── DeadlineExceeded        (also TimeoutError) nothing waits without a deadline
    │   └── FunctionFailed          a server function raised on a node
    ├── CheckpointError             a checkpoint could not be written, found or read
    │   ├── CheckpointDamaged       a file of it is missing, torn or not what was written
    │   └── NoCheckpoint            there is none that is sound, or none of that id
    └── GroupError                  a worker group could not start or go on
        ├── NotEnoughSlots          the cluster cannot run all ranks at once
        ├── WorkerFailed            a rank's function raised; carries rank and first cause
        ├── OutOfDeviceMemory       a step of a rank does not fit in the memory of its GPU
        └── Fenced                  this attempt lost its rank to a newer incarnation

Every error says what must hold, what was got, and what to set; what it is about (table, bucket, node, rank, clock ...)
is in ``attributes`` and readable as an attribute. Errors survive pickling and the wire; `to_wire` makes any exception fit for
it (see `plain`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparkps.plain import cut, fit_attributes, name_of, text_of


class SparkPSError(Exception):
    """Base of all errors of sparkps.

    Parameters
    ----------
    message : str
        What must hold, what was got, what to set.
    **attributes
        What the error is about: ``table``, ``bucket``, ``node``, ``rank``, ``clock``, ``column``, ``key`` ...

    Examples
    --------
    >>> SparkPSError("no such table", table="w").table
    'w'
    """

    def __init__(self, message: str = "", /, **attributes: Any) -> None:
        super().__init__(message)
        self.message = message
        self.attributes = attributes

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__.get("attributes", {})
        if name in attributes:
            return attributes[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.attributes)


class ConfigError(SparkPSError):
    """A setting or an argument of :class:`~sparkps.PSContext` is wrong; names the key."""


class InvalidInput(SparkPSError, ValueError):
    """Keys, values, rows or names that a call refuses; the tables are as they were."""


class TableMismatch(InvalidInput):
    """A table of that name exists with another dim, dtype, kind or optimizer."""


class NonFiniteValues(InvalidInput):
    """NaN or infinity in a push, an add or an assign."""


class UnknownTable(SparkPSError, KeyError):
    """No table of that name on the tier, or it was dropped."""


class ProtocolError(SparkPSError):
    """Frames that are garbage, truncated, oversized or of another version."""


class UnsendableValue(ProtocolError, InvalidInput):
    """A value in a message's fields that no message carries: an int beyond 64 bits, an object, text that is not UTF-8 ..."""


class TierError(SparkPSError):
    """The tier could not do what was asked."""


class NodeUnreachable(TierError):
    """No answer from a node or from the coordinator."""


class NotAdmitted(TierError):
    """The tier must be given its secret, and was not, or was given another one."""


class ShardLost(TierError):
    """The last replica of a bucket is gone."""


class OutOfNodeMemory(TierError):
    """A node is near `spark.sparkps.nodeMemory`: what was refused changed nothing there; existing rows go on working."""


class DeadlineExceeded(TierError, TimeoutError):
    """A wait ended at its deadline; the message names who was waited for."""


class FunctionFailed(TierError):
    """A server function raised on a node."""


class CheckpointError(SparkPSError):
    """A checkpoint could not be written, found or read."""


class CheckpointDamaged(CheckpointError):
    """A file of a checkpoint is missing, torn, truncated or not what was written; ``file`` names it."""


class NoCheckpoint(CheckpointError):
    """There is no sound checkpoint, or none of the id that was asked for."""


class GroupError(SparkPSError):
    """A worker group could not start or go on."""


class NotEnoughSlots(GroupError):
    """The cluster cannot run all ranks of a group at once."""


class WorkerFailed(GroupError):
    """A rank's function raised; ``rank`` and ``cause`` tell where and what."""


class OutOfDeviceMemory(GroupError):
    """What a rank computes at once does not fit in the memory of its GPU; doing it again would not help."""


class InputFailed(GroupError):
    """Spark could not compute the rows that a group was to work on; ``cause`` is what Spark says."""


class Fenced(GroupError):
    """This attempt lost its rank to a newer incarnation, or its group has ended."""


def _subclasses(cls: type[SparkPSError]) -> dict[str, type[SparkPSError]]:
    found = {cls.__name__: cls}
    for sub in cls.__subclasses__():
        found = {**_subclasses(sub), **found}  # a user's own class takes no name of ours
    return found


def _rebuild(cls: type[SparkPSError], message: str, attributes: Mapping[str, Any]) -> SparkPSError:
    # Not by calling the class: attributes may have any name, and a user's own class may want other arguments.
    error = cls.__new__(cls)
    SparkPSError.__init__(error, message)
    error.attributes = dict(attributes)
    return error


def from_wire(name: str, message: str, attributes: Mapping[str, Any]) -> SparkPSError:
    """The error that `to_wire` described; an unknown name becomes a `TierError`."""
    try:
        return _rebuild(_subclasses(SparkPSError).get(name, TierError), message, attributes)
    except Exception:  # a user's own class, which cannot be made so
        return _rebuild(TierError, message, attributes)


def to_wire(error: BaseException) -> tuple[str, str, dict[str, Any]]:
    """Name, message and attributes of `error`, fit for a message: plain, bounded in size, every text UTF-8. Never raises.

    Examples
    --------
    >>> to_wire(UnknownTable("no table", table="w"))
    ('UnknownTable', 'no table', {'table': 'w'})
    >>> to_wire(OSError("part-\\udcff.csv"))
    ('TierError', 'OSError: part-\\\\udcff.csv', {})
    """
    if not issubclass(type(error), SparkPSError):  # not isinstance, which asks a user's object for its class
        return "TierError", cut(f"{name_of(error)}: {text_of(error)}"), {}
    try:
        message, attributes = text_of(error.message), fit_attributes(error.attributes)  # type: ignore[attr-defined]
    except BaseException:  # a user's own class, whose __init__ has not called ours
        message, attributes = text_of(error), {}
    return name_of(error), message, attributes
