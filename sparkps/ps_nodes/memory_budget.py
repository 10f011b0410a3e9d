"""What a node may use, what it uses, and what it takes no more: new rows near its limit, before they are ordered or acknowledged.

Counted are: keys and rows with their room (what arrays have allocated), what they will grow by for writes that were accepted
(`tables.growth`), writes of open clocks, logs to and from other nodes, requests, answers and key sets; and whatever else the
process has in memory: interpreter, kernels, what users' functions keep.

New rows are taken up to `SHARE_OF_ROWS` of the limit. The rest is kept for what cannot be refused: what primaries have accepted,
their replicas take, and a replica that is at that line says so with each acknowledgement; so its primaries refuse new rows as
well, and what was under way meanwhile goes into the rest. So do logs, answers, and the clocks of ranks that others wait for.

Far from the line none of this costs anything: tables that grow by half, as they may at most, would not reach it, and a request
looks at one flag (`near`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sparkps.errors import OutOfNodeMemory
from sparkps.host_memory import UNLIMITED, limit_of_node
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.growth import FACTOR, Growth
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.keysets import KeyChunk
from sparkps.ps_nodes.tables.targets import Target
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.buckets import mask_of

#: New rows are taken up to this share of what the node may use.
SHARE_OF_ROWS = 0.9

#: Shares of what the node may use that are kept at most in writes of one group's open clocks, in requests that wait for their turn,
#: and in answers that nobody has read.
BUFFERS, REQUESTS, ANSWERS = 1 / 8, 1 / 16, 1 / 8

#: The same of what is kept for one session, where nothing else is set: key sets, answers that it may ask for again, parked requests;
#: and of what is kept, or waits for its turn, for all of them.
OF_A_SESSION, OF_SESSIONS = 1 / 4, 1 / 2

_SETTING = "spark.sparkps.nodeMemory"

_NONE_MORE = np.zeros(NUM_BUCKETS, np.int64)


class MemoryBudget:
    """The memory of one node. Thread-safe.

    Parameters
    ----------
    resident : callable
        Bytes of the process that are in memory.
    at_hand : callable
        Bytes that there are on the host, or in the container.
    """

    def __init__(self, resident: Callable[[], int] = lambda: 0, at_hand: Callable[[], int] = lambda: UNLIMITED) -> None:
        self._resident = resident
        self._at_hand = at_hand
        #: Id of this node, for errors.
        self.node = -1
        self.growth = Growth(self._alarmed)
        #: New rows must be counted before they are taken. Any thread reads.
        self.near = False
        #: The line is reached: nothing new is taken, and other nodes are told.
        self.full = False
        #: Bytes of open clocks of a group above which a rank that is ahead is held back.
        self.buffer_room = self._buffers = UNLIMITED
        #: Nodes that have copies of this one's buckets, and are full. Owner: the I/O thread.
        self.full_nodes: frozenset[int] = frozenset()
        #: Bytes that the node may use.
        self.limit = UNLIMITED
        #: Buckets that a node copies, as bits. Set by whoever knows.
        self.copied_by: Callable[[int], int] = lambda node: 0
        #: Bytes of writes, logs, requests and answers that are kept: each is asked on any thread.
        self.queues: list[Callable[[], int]] = []
        #: What only the I/O thread can count: key sets, and requests that wait. Set by it now and then.
        self.sampled = 0
        self._tables: Tables | None = None
        #: What the process had before it had any table.
        self._at_first = 0
        #: As of the last count: sparse tables without what `growth` has seen, dense ones, and what is not counted otherwise. Owner:
        #: the lock of `growth`.
        self._sparse = self._dense = self._rest = 0

    # ---- the limit -----------------------------------------------------------------------------------------------------

    def set_limit(self, setting: int, nodes: int) -> None:
        """The node may use `setting` bytes, or where that is 0 its share of what all nodes of the tier on this host may."""
        self.limit = limit_of_node(setting, self._at_hand(), nodes)
        self._at_first = self._at_first or self._resident()
        self.measure()

    def begin(self, tables: Tables) -> None:
        """There are tables from now on."""
        self._tables = tables

    @property
    def line(self) -> int:
        """Bytes up to which new rows are taken."""
        return int(SHARE_OF_ROWS * self.limit)

    def most(self, share: float, size: int) -> int:
        """`size` bytes, or a share of what the node may use, if that is less."""
        return min(size, int(share * self.limit))

    def has_room(self, nbytes: int) -> bool:
        """Whether there are so many bytes left for what can be done without."""
        return self.used + nbytes <= self.limit

    # ---- counting ------------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Count what there is. Now and then, and before anything is refused."""
        growth, queued = self.growth, self._queued()
        with growth.lock:
            growth.settle()
            before = growth.grown
        sparse, dense = (0, 0) if self._tables is None else self._tables.sizes()
        uncounted = self._resident() - sparse - dense - queued
        with growth.lock:
            self._sparse, self._dense, self._rest = sparse - before, dense, max(self._at_first, uncounted)
            growth.mark = int(self.line - dense - self._rest - queued - FACTOR * self._sparse)
            self.near = growth.pressure > growth.mark or bool(self.full_nodes)
            self._set_full(self.near and self._needed(None) > self.line)

    def set_buffers(self, nbytes: int) -> None:
        """A group may keep so many bytes of open clocks, unless the node has less for them."""
        self._buffers = nbytes
        self._set_full(self.full)

    def _set_full(self, full: bool) -> None:
        self.full = full
        self.buffer_room = 0 if full else self.most(BUFFERS, self._buffers)

    def _alarmed(self) -> None:
        self.near = True

    def _queued(self) -> int:
        return self.sampled + sum([each() for each in self.queues])

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._sparse + self.growth.grown + self._dense + self._rest + self._queued()

    def _needed(self, index: KeyIndex | None, more: np.ndarray = _NONE_MORE) -> int:
        """Bytes when all is in that was accepted, and so many more keys of each bucket of an index. Under the lock of `growth`."""
        self.growth.count_all()
        total, replaced = self.used, 0
        for each in [] if self._tables is None else self._tables.indexes():
            extra = more if each is index else _NONE_MORE
            if each is index or each.promised.any():
                grown, largest = each.to_come(extra)
                total, replaced = total + grown, max(replaced, largest)
        return total + replaced

    # ---- what is asked for ---------------------------------------------------------------------------------------------

    def promise(self, targets: Sequence[Target], nbytes: int) -> bool:
        """A write of so many bytes is done later: its new rows have their room from now on. False: `admit` must say so."""
        for target in targets:
            chunk = target.chunk
            if chunk is not None and chunk.slots is None and chunk.promise is None:
                chunk.promise = self.growth.promise(chunk.index, chunk.runs, chunk.size, nbytes)
                if chunk.promise is None:
                    return False
        return True

    def admit(self, targets: Sequence[Target]) -> None:
        """As `promise`, near the line: every key is looked up.

        Raises
        ------
        OutOfNodeMemory
            There is no room. Nothing was changed.
        """
        for target in targets:
            chunk = target.chunk
            if chunk is not None and chunk.promise is None:
                self._admit(target, chunk)

    def _admit(self, target: Target, chunk: KeyChunk) -> None:
        missing = chunk.new_keys()
        if missing is None:
            return
        buckets, counts = chunk.runs[0][missing > 0], missing[missing > 0]
        more = np.zeros(NUM_BUCKETS, np.int64)
        more[buckets] = counts
        self._check_copies(target, mask_of(buckets))
        for is_fresh in (False, True):
            if is_fresh:
                self.measure()
            with self.growth.lock:
                if self._needed(chunk.index, more) <= self.line:
                    chunk.promise = self.growth.count(chunk.index, buckets, counts)
                    return
        self._set_full(True)
        raise self._error(f"Table {target.table.spec.name!r} must have memory for {int(counts.sum())} new rows", target.table.spec.name)

    def _check_copies(self, target: Target, buckets: int) -> None:
        """Whether the nodes that copy these buckets have room."""
        for node in self.full_nodes:
            if buckets & self.copied_by(node):
                name = target.table.spec.name
                raise OutOfNodeMemory(
                    f"Table {name!r} must have memory for new rows on every node that keeps copies of its buckets. Node {node} is at"
                    f" {SHARE_OF_ROWS:.0%} of its `{_SETTING}`. Existing rows go on working; set more, use more nodes, or drop tables.",
                    table=name,
                    node=node,
                    key=_SETTING,
                )

    def check_bytes(self, nbytes: int, what: str, table: str) -> None:
        """Whether so many bytes more can be kept for a while: up to the limit itself.

        Raises
        ------
        OutOfNodeMemory
        """
        if self.near and self.used + nbytes > self.limit:
            self.measure()
            if self.used + nbytes > self.limit:
                raise self._error(f"There must be memory for {what}", table)

    def check_table(self, spec: TableSpec) -> None:
        """Whether there is room for the first rows of a new table.

        Raises
        ------
        OutOfNodeMemory
        """
        if self._tables is None or self.limit >= UNLIMITED:
            return
        nbytes = self._tables.bytes_of_new(spec)
        self.measure()
        with self.growth.lock:
            fits = not nbytes or self._needed(None) + nbytes <= self.line
        if not fits:
            raise self._error(f"Table {spec.name!r} must have memory for its first rows, {nbytes >> 20} MiB", spec.name)

    def check_restore(self, nbytes: int) -> None:
        """Whether so many bytes of a checkpoint's rows can be here at all, in place of those that are.

        Raises
        ------
        OutOfNodeMemory
        """
        need = self._at_first + nbytes
        if need > self.limit:
            raise OutOfNodeMemory(
                f"A restore must have memory for {nbytes >> 20} MiB of rows and keys on node {self.node}, which needs {need >> 20} MiB with"
                f" them. It may use {self.limit >> 20} MiB (`{_SETTING}`). Nothing was changed: set more, or use more nodes.",
                node=self.node,
                limit=self.limit,
                key=_SETTING,
            )

    def _error(self, what: str, table: str) -> OutOfNodeMemory:
        used = self.used
        return OutOfNodeMemory(
            f"{what} on node {self.node}. It uses {used >> 20} MiB of {self.limit >> 20} MiB (`{_SETTING}`), of which new rows may take"
            f" {SHARE_OF_ROWS:.0%}. Existing rows go on working; set more, use more nodes, or drop tables.",
            table=table,
            node=self.node,
            used=used,
            limit=self.limit,
            key=_SETTING,
        )

    # ---- other nodes ---------------------------------------------------------------------------------------------------

    def hear(self, node: int, full: bool) -> None:
        """A node that copies buckets of this one says whether it has room. On the I/O thread."""
        if full != (node in self.full_nodes):
            self.full_nodes = self.full_nodes | {node} if full else self.full_nodes - {node}
            self.measure()

    def report(self) -> dict[str, int]:
        """As a node's report has it; without a limit that is known, 0."""
        return {"memory_bytes": self.used, "memory_limit": 0 if self.limit >= UNLIMITED else self.limit}


__all__ = ["MemoryBudget"]
