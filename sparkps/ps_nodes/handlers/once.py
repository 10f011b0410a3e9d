"""Calls that read and write: each is carried out once, and what it has read is answered again where it is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparkps.errors import SparkPSError, TierError
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.replication import shipping
from sparkps.ps_nodes.replication.answers import writer_of
from sparkps.ps_nodes.replication.copies import Places
from sparkps.ps_nodes.shards import LATER, Entry
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.tables.directory import Use
from sparkps.ps_nodes.work import Work
from sparkps.wire.buckets import listed
from sparkps.wire.marks import stamp_of

#: Starts a user's function: takes the buckets, and whom to tell.
Start = Callable[[Any, Callable[[Any, BaseException | None], None]], None]


class Once:
    """A call that reads and writes, and must not be carried out twice: what is new of it runs, the rest is answered as it was.

    Parameters
    ----------
    state : ServerState
    work : Work
    buckets : int
        On which it is asked for, as bits.
    """

    def __init__(self, state: ServerState, work: Work, buckets: int) -> None:
        member = work.message.member
        self._state = state
        self._work = work
        self._buckets = buckets
        self._member = member
        #: Id of the session, and number of the call in it; of a rank 0.
        self.session = work.session.id if member is None else 0
        self.stamp = work.stamp if member is None else 0
        self._writer = writer_of(self.session, member)
        self._number = self.stamp if member is None else stamp_of(member.clock, member.ordinal)

    def order(self, table: int, make: Callable[[int], Entry]) -> tuple[Entry, bool, int]:
        """Its entry for the buckets where it is new, by the marks of `table`; whether it is its turn; and these buckets."""
        if self._member is not None:
            return self._state.group(self._member.group).call(self._member, table, self._buckets, make)
        found = [0]

        def of(new: dict[int, int]) -> Entry:
            found[0] = new[table]
            return make(new[table])

        entry, its_turn = self._state.shards.order_once(self.session, self.stamp, {table: self._buckets}, of)
        return entry, its_turn, found[0]

    def answer(self, places: Places, new: int, arrays: Any, error: BaseException | None) -> None:
        """It has run where it is new."""
        state, work = self._state, self._work
        if error is not None:
            for place in places:  # they have carried it out
                state.copies.give_up(place.log)
            work.fail(error)
            return
        if new:
            state.answers.keep(self._writer, self._number, new, arrays)
        try:
            found = state.answers.find(self._writer, self._number, self._buckets)
            if found is None:
                raise TierError(
                    "A call that reads and writes must be answered before its answer is forgotten. It was carried out, and what it read"
                    " is not known any more."
                )
        except SparkPSError as lost:
            work.fail(lost)
            return
        state.copies.when_kept(places, lambda: work.done(found, record=True), work.pass_on)


class UserWrite:
    """A user's function that may write: other writers wait from its turn until it has ended; then what it changed is written.

    Parameters
    ----------
    state : ServerState
    work : Work
    prepared : Prepared
    buckets : int
        On which it is asked for, as bits.
    start : callable
        Runs it.
    use : Use
        Its tables, until it has ended.
    """

    def __init__(
        self, state: ServerState, work: Work, prepared: functions.Prepared, buckets: int, start: Start, use: Use
    ) -> None:
        self._state = state
        self._start = start
        self._use = use
        self._once = Once(state, work, buckets)
        self._work = work
        #: Its marks decide.
        self._table = prepared.tables[0].spec.table
        self._orders = [table.order for table in prepared.tables]
        self._buckets = buckets
        #: Where it is new, as bits; and its entry.
        self._new = 0
        self._entry: Entry | None = None
        #: Its number among functions that have their turn.
        self._hold = state.copies.next_hold()
        #: Where its end is shipped to.
        self._ends: Places = ()

    def begin(self) -> None:
        """Order it, and begin when it is its turn."""
        # Its tables are kept from other writers until it ends, so that nothing of theirs is overwritten; reads go on.
        changed = dict.fromkeys(self._orders, self._buckets)

        def make(new: int) -> Entry:
            self._new = new
            self._entry = Entry(changed, self._change, self._done, new, self._buckets & ~new)
            return self._entry

        entry, its_turn, _ = self._once.order(self._table, make)
        if self._new:
            shipping.ship_hold(self._state.copies, entry.places, self._hold, self._orders, self._new)
        if its_turn:
            self._state.shards.carry_out(entry)
        self._work.hold()

    def _change(self) -> Any:
        if not self._new:
            self._use.release()
            return None
        try:
            self._start(listed(self._new), self._computed)
        except BaseException as error:
            self._use.release()
            self._tell_end(None)
            raise error from None
        return LATER

    def _computed(self, outcome: Any, error: BaseException | None) -> None:
        arrays = None
        if error is None:
            try:
                outcome.commit()
                arrays = outcome.arrays
            except BaseException as raised:
                error = raised
        self._tell_end(None if error is not None else outcome)
        assert self._entry is not None
        self._state.shards.finish(self._entry, arrays, error)

    def _tell_end(self, outcome: Any) -> None:
        """Those who copy the buckets hear what it has written, if anything."""
        assert self._entry is not None
        copies, once = self._state.copies, self._once
        self._ends = copies.reserve_again(self._entry.places)
        shipping.ship_rows(
            copies, self._ends, self._hold, outcome, self._table, once.session, once.stamp, self._new
        )

    def _done(self, arrays: Any, error: BaseException | None) -> None:
        if error is not None:
            self._work.fail(error)  # nothing was written, here or elsewhere
            return
        assert self._entry is not None
        self._once.answer(self._ends or self._entry.places, self._new, arrays, None)


__all__ = ["Once", "UserWrite"]
