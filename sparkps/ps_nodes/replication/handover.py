"""What a node does when the placement changes: it leads what has become its own, gives up what has not, and lets go of copies.

The steps of one change follow each other on the I/O thread: first all that sources of buckets that are to be led have shipped is
carried out; then, at one moment, logical time and buffers of buckets change between the node's own groups and its followers; and
it is done when all that was taken for buckets that are led elsewhere now is there. Rows stay where they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from sparkps.errors import ProtocolError, TierError
from sparkps.plain import name_of, shown, text_of
from sparkps.ps_nodes.closed import Serving
from sparkps.ps_nodes.replication.follower import Follower
from sparkps.ps_nodes.shards import Entry
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import buckets_in, packed
from sparkps.wire.messages.control import NodeInfo
from sparkps.wire.messages.log import ShipGiven
from sparkps.wire.placement import Placement, check_placement, replica_sets

if TYPE_CHECKING:
    from sparkps.ps_nodes.state import ServerState

log = logging.getLogger(__name__)

#: How requests are served if nothing is said.
OPEN = Serving()

#: Called when the change is complete, with why it is not.
Done = Callable[[BaseException | None], None]


def place(
    state: ServerState,
    epoch: int,
    placement: Placement,
    nodes: Iterable[NodeInfo],
    done: Done,
    anew: Iterable[int] = (),
    serving: Serving = OPEN,
) -> None:
    """Take over a placement, after those that came before; buckets of `anew` begin empty. On the I/O thread."""
    nodes, anew = list(nodes), list(anew)
    check_placement(placement, state.nodes.keys() | {state.node, *(info.node for info in nodes)} if nodes else None)
    if not all(0 <= bucket < NUM_BUCKETS for bucket in anew):
        raise ProtocolError(f"Buckets that begin anew must be in [0, {NUM_BUCKETS}). Got {shown(anew)}.")
    state.nodes.update((info.node, info) for info in nodes)
    state.begin()
    for target in state.copies.targets():
        if _is_gone(state, target):
            state.copies.forget(target)
    state.placing.append(_Change(state, epoch, placement, done, anew, serving))
    if len(state.placing) == 1:
        state.placing[0].begin()
    else:
        state.placing[0].hurry()


def _is_gone(state: ServerState, node: int) -> bool:
    info = state.nodes.get(node)
    return info is not None and info.state != "up"


class _Change:
    """One change of placement at one node.

    Parameters
    ----------
    state : ServerState
    epoch : int
    placement : Placement
    done : callable
    anew : iterable of int
        Buckets of which there is no copy: who leads them begins them empty.
    serving : Serving
        Whether requests are carried out under it.
    """

    def __init__(
        self, state: ServerState, epoch: int, placement: Placement, done: Done, anew: Iterable[int], serving: Serving
    ) -> None:
        self._state = state
        self._epoch = epoch
        self._placement = placement
        self._rows = replica_sets(placement)
        self._done = done
        #: The placement before it; set when it begins.
        self._before: list[tuple[int, ...]] = []
        self._gained = self._given = 0
        #: Buckets that this node leads from now on, as bits.
        self._led = _mask(bucket for bucket, row in enumerate(self._rows) if row[0] == state.node)
        self._anew = _mask(anew)
        self._serving = serving
        #: It holds; only what was given up may still be on its way.
        self._is_made = False
        #: To be run when the locks are free: closes that are due.
        self._follow: list[Callable[[], None]] = []
        #: Groups that were closed here, and not yet where buckets come from.
        self._reopened: set[int] = set()

    def begin(self) -> None:
        """It is its turn: followers come to a stop, when they have carried out all that is here."""
        state = self._state
        if self._epoch <= state.epoch:  # a repetition: copies may have come since that it does not name
            self._is_made = True
            self._when_all_is_there(lambda: self._end(None))
            return
        self._before = replica_sets(state.placement)
        #: Buckets that it did not lead, and those that it leads no more.
        self._gained = self._led & ~state.bucket_bits
        self._given = state.bucket_bits & ~self._led
        self._followers = list(state.followers)
        left = [len(self._followers) + 2]

        def one() -> None:
            left[0] -= 1
            if not left[0]:
                self._make()

        for follower in self._followers:
            follower.pause(lambda: state.io.post(one))
        state.loading.when_none(one)  # what it leads it must be able to run functions on
        one()

    def hurry(self) -> None:
        """Another one waits: what is still to be handed over is its concern now."""
        if self._is_made:
            self._end(TierError(f"A placement must not be replaced while it is taken over. That of epoch {self._epoch} was."))

    def _end(self, error: BaseException | None) -> None:
        """Done, and the next one may begin."""
        placing = self._state.placing
        if not placing or placing[0] is not self:
            return
        placing.pop(0)
        self._done(error)
        if placing:
            placing[0].begin()
            if len(placing) > 1:
                placing[0].hurry()

    def _make(self) -> None:
        """All that was shipped is carried out: change. On the I/O thread."""
        state = self._state
        try:
            self._check()
        except TierError as error:  # nothing is changed
            log.warning("the placement of epoch %d is not taken over: %s", self._epoch, error)
            self._go_on()
            self._end(error)
            return
        try:
            self._reopen()
            with ExitStack() as still:
                for _, group in sorted(state.groups.items()):
                    still.enter_context(group.still())
                still.enter_context(state.shards.still())
                given = state.copies.reserve(self._given)
                self._give()
                self._gain()
                state.serving = self._serving
                state.bucket_bits, state.placement, state.epoch = self._led, self._placement, self._epoch
                state.shards.led = self._led if self._serving.is_open else 0  # nothing that was looked at before is ordered now
                self._begin_copies()
            state.copies.ship(given, lambda place: (ShipGiven(packed(place.buckets)), []))
            self._let_go()
        except Exception as error:
            # What was given is here no more, and may be nowhere else: nobody must be told that it is kept, or wait for it.
            log.exception("the placement of epoch %d could not be taken over", self._epoch)
            state.must_end = f"the placement of epoch {self._epoch} was taken over in part only: {name_of(error)}: {text_of(error)}"
            self._end(error)
            return
        self._go_on()
        for follow in self._follow:
            state.pool.submit(follow)
        for number in self._reopened:
            state.close_group(number)
        self._release()
        self._is_made = True
        self._when_handed_over(lambda: state.io.post(lambda: self._end(None)))
        if len(state.placing) > 1:
            self.hurry()

    def _go_on(self) -> None:
        for follower in self._followers:
            follower.go_on()

    def _reopen(self) -> None:
        """What is still due in buckets that come is applied, though its group was closed here: not yet where they come from."""
        state = self._state
        sources = {self._follower_with(bucket) for bucket in buckets_in(self._gained & ~self._anew)}
        for follower in sources:
            for number, shadow in {} if follower is None else follower.groups.items():
                if number not in state.groups:
                    state.open_group(shadow.spec)
                    self._reopened.add(number)

    def _check(self) -> None:
        """That there is a copy of all that it is to lead: nothing was changed yet."""
        wanted = self._gained & ~self._anew if self._before else 0
        missing = [bucket for bucket in buckets_in(wanted) if self._follower_with(bucket) is None]
        if missing:
            node = self._state.node
            raise TierError(
                f"A node must hold a copy of a bucket that it is to lead. Node {node} has none of bucket {missing[0]}.",
                node=node,
                bucket=missing[0],
                buckets=missing,
            )

    # ---- what is led -----------------------------------------------------------------------------------------------------

    def _give(self) -> None:
        """Logical time of buckets that others lead goes to their followers, or away."""
        state = self._state
        for bucket in buckets_in(self._given):
            row = self._rows[bucket]
            marks = state.shards.marks.export(bucket)
            state.shards.marks.remove(bucket)
            shares = [group.give(bucket) for group in state.groups.values()]
            if state.node in row:
                state.followers.of(row[0]).bring(bucket, marks, shares)

    def _gain(self) -> None:
        """Logical time of buckets that were copied becomes the node's own."""
        state = self._state
        for bucket in buckets_in(self._gained):
            follower = self._follower_with(bucket)
            if follower is None or self._anew >> bucket & 1:
                self._begin_empty(bucket)
                continue
            marks = follower.marks.export(bucket)
            state.shards.marks.adopt(bucket, marks)
            state.sessions.remember([mark.session for mark in marks], state.now())
            for number, own in state.groups.items():
                shadow = follower.groups.get(number)
                if shadow is None:  # nobody has spoken in it, or it has ended there
                    own.hold(bucket)
                    if follower.has_ended(number):
                        self._follow.append(partial(own.end_when_applied, follower.source))
                    continue
                follow = own.adopt(shadow.give(bucket))
                if follow is not None:
                    self._follow.append(follow)
            follower.let_go(bucket)

    def _follower_with(self, bucket: int) -> Follower | None:
        """Who has copied the bucket of its primary before."""
        source = self._before[bucket][0] if self._before else -1
        return next(
            (f for f in self._followers if f.source == source and f.held >> bucket & 1 and not f.broken), None
        )

    def _begin_empty(self, bucket: int) -> None:
        """A bucket that nobody has held before, or that is to be restored."""
        self._state.tables.hold(1 << bucket)
        for group in self._state.groups.values():
            group.hold(bucket)

    # ---- who copies ------------------------------------------------------------------------------------------------------

    def _begin_copies(self) -> None:
        """Nodes that are to copy a bucket from its beginning, or have led it until now, need no snapshot."""
        state = self._state
        for bucket, row in enumerate(self._rows):
            if row[0] == state.node and self._gained >> bucket & 1:
                for target in row[1:]:
                    if not self._before or target == self._before[bucket][0]:
                        state.copies.begin(target, 1 << bucket)
                        state.copies.caught_up(target, 1 << bucket)
            elif state.node in row[1:] and not self._before:
                state.tables.hold(1 << bucket)
                state.followers.of(row[0]).hold(bucket)

    def _when_handed_over(self, then: Callable[[], None]) -> None:
        """Wait until all that was taken for buckets that others lead is there; what else nobody copies any more is ended."""
        state, copies = self._state, self._state.copies
        for target in copies.targets():
            wanted = _mask(b for b, row in enumerate(self._rows) if target in row)
            copies.end(target, self._led & ~wanted)
        state.handing = (state.handing | self._given) & ~self._led

        def over() -> None:
            if state.placing and state.placing[0] is self:
                for target in copies.targets():
                    copies.end(target, state.handing)
                state.handing = 0
            then()

        self._when_all_is_there(over)

    def _when_all_is_there(self, then: Callable[[], None]) -> None:
        """Call `then`, on the I/O thread, when all that was taken for buckets that were given up lies at their new primaries."""
        state = self._state
        if not state.handing:
            then()
            return

        def carried_out(_: Any, error: BaseException | None) -> None:
            state.copies.when_kept(state.copies.all_so_far(state.handing), lambda: state.io.post(then))

        # Behind all that was ordered before: what a user's function has written is shipped when it ends.
        state.shards.apply(Entry(state.tables.shards_of(state.handing), lambda: None, carried_out))

    # ---- what goes -------------------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Copies that the placement does not name go, rows and all, behind whatever is still changing them."""
        state = self._state
        named = _mask(b for b, row in enumerate(self._rows) if state.node in row)
        for follower in state.followers:
            gone = _is_gone(state, follower.source)
            theirs = _mask(b for b, row in enumerate(self._rows) if row[0] == follower.source)
            for bucket in buckets_in(follower.held if gone else follower.held & ~(theirs & named)):
                follower.drop(bucket)
            if gone:
                follower.release_holds()
                state.followers.forget(follower.source)
        over = state.tables.held & ~named
        if not over:
            return

        def let_go() -> None:  # one of them may have come again before this had its turn
            wanted = state.bucket_bits
            for follower in state.followers:
                wanted |= follower.held
            state.tables.let_go(over & ~wanted)

        def told(_: Any, error: BaseException | None) -> None:
            if error is not None:
                log.error("buckets could not be let go of", exc_info=error)

        state.shards.apply(Entry(state.tables.shards_of(over), let_go, told))

    def _release(self) -> None:
        """Who waits is refused by the new epoch; key sets are registered anew."""
        state = self._state
        for session in list(state.sessions.sessions.values()):
            session.forget_keysets()
        for group in list(state.groups.values()):
            group.refuse_parked()
        state.tell_sessions()


def _mask(buckets: Iterable[int]) -> int:
    mask = 0
    for bucket in buckets:
        mask |= 1 << bucket
    return mask


__all__ = ["Done", "place"]
