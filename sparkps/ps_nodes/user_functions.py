"""Threads for users' functions, of their own: whatever a function does, nothing else of the node waits for it.

A function may be slow, never return, or raise anything. It has a deadline, at which its caller is answered; what it gives
later is thrown away. A thread cannot be ended, so that a function which never returns keeps its thread: the threads are
bounded, and when all of them are held by such functions the next ones fail at once. The node's end waits for none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sparkps.errors import DeadlineExceeded, FunctionFailed, SparkPSError, TierError

log = logging.getLogger(__name__)

#: Threads of a node for users' functions.
THREADS = 4

#: Longest that a function may run, in seconds, whatever its caller says: a week.
_LONGEST = 7 * 86400.0

#: Longest text of an exception that goes into a message.
_TEXT = 2000

#: Takes the result, or None and the error.
Done = Callable[[Any, SparkPSError | None], None]

_current = threading.local()


class _Job:
    """One function to run. Owner of the flags: the lock of its `UserThreads`."""

    def __init__(self, name: str, work: Callable[[], Any], seconds: float, done: Done, ended: Callable[[], None]) -> None:
        self.name = name
        self.work = work
        #: What it may take, in seconds, the wait for a thread included.
        self.seconds = min(seconds, _LONGEST) if seconds >= 0.0 else 0.0  # also where it is no number
        #: Its deadline, by the clock of the threads.
        self.until = 0.0
        self.done = done
        self.ended = ended
        #: Whether it has begun.
        self.begun = False
        #: Whether its caller has its answer: whoever sets it calls `done`.
        self.settled = False
        #: Whether that answer was DeadlineExceeded.
        self.late = False
        #: Of these two, whoever sets the second calls `ended`: `done` has returned; it has ended, or will never begin.
        self.told = False
        self.over = False


class UserThreads:
    """Runs users' functions, each with a deadline. Thread-safe.

    Parameters
    ----------
    threads : int
        How many run at once; more wait for one that is free.
    clock : callable
        The time in seconds; it never goes back.
    """

    def __init__(self, threads: int = THREADS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = threads
        self._clock = clock
        self._changed = threading.Condition()
        # Owner of all that follows: `_changed`.
        self._waiting: deque[_Job] = deque()
        self._running: set[_Job] = set()
        #: Threads that exist, of which `_idle` wait for a job.
        self._threads = 0
        self._idle = 0
        self._timer: threading.Thread | None = None
        self._closed = False

    # ---- callers -------------------------------------------------------------------------------------------------------

    def start(
        self, job: Callable[[], Any], seconds: float, done: Done, ended: Callable[[], None], *, name: str = "a function"
    ) -> None:
        """Run `job` on a thread of its own kind. Returns at once.

        Parameters
        ----------
        job : callable
            May call `past_deadline` now and then, to end when nobody waits for it any more.
        seconds : float
            From now on; at the deadline the caller is answered, whether the job has begun or not.
        done : callable
            Called exactly once, from some thread, possibly from this one: ``done(result, None)`` or ``done(None, error)``, with
            what the job raised (of another kind: as FunctionFailed), or DeadlineExceeded. It must not block.
        ended : callable
            Called exactly once, after the job has really ended or when it is sure never to begin, and after `done`.
        name : str
            The function, for messages.
        """
        made = _Job(name, job, seconds, done, ended)
        made.until = self._clock() + made.seconds
        with self._changed:
            refusal = self._refusal() or self._make_threads()
            if refusal is None:
                self._waiting.append(made)
                self._changed.notify_all()
        if refusal is not None:
            self._answer([(made, refusal)])

    def close(self) -> None:
        """The node ends: every caller that still waits gets an error. Never waits for a function."""
        with self._changed:
            self._closed = True
            left = [job for job in [*self._running, *self._waiting] if self._settle(job)]
            self._waiting.clear()
            self._changed.notify_all()
        self._answer([(job, _ending(job.name)) for job in left])

    def _answer(self, jobs: list[tuple[_Job, SparkPSError]]) -> None:
        """Tell the callers of settled jobs why they get nothing."""
        for job, error in jobs:
            _tell(job, None, error)
            self._leave(job, told=True, over=not job.begun)

    def _leave(self, job: _Job, *, told: bool = False, over: bool = False) -> None:
        with self._changed:
            if over:
                self._running.discard(job)
            before = job.told and job.over
            job.told, job.over = job.told or told, job.over or over
            last = job.told and job.over and not before
        if last:
            _call(job.ended)

    # ---- under the lock ------------------------------------------------------------------------------------------------

    def _refusal(self) -> SparkPSError | None:
        """Why no function can begin any more, if so."""
        if self._closed:
            return _ending("a function")
        if len(self._running) < self._most or not all(job.late for job in self._running):
            return None
        names = ", ".join(sorted({job.name for job in self._running}))
        return FunctionFailed(
            f"A node must have a thread free for users' functions. All {self._most} are held by functions that are past their"
            f" deadline and have not returned: {names}. Make them end, and start the tier anew.",
            functions=names,
        )

    def _settle(self, job: _Job) -> bool:
        """Whether it is for the caller of this to answer."""
        first, job.settled = not job.settled, True
        return first

    def _make_threads(self) -> SparkPSError | None:
        """See to it that there is a thread for one more job; returns why there is none."""
        try:
            if self._timer is None:
                self._timer = self._thread(self._keep_time, "sparkps-user-deadlines")
            if self._idle <= len(self._waiting) and self._threads < self._most:
                self._thread(self._work, f"sparkps-user-{self._threads}")
                self._threads += 1
        except RuntimeError as error:  # the process has as many threads, or as much memory, as it may
            if self._threads == 0:
                return TierError(f"A node must be able to start a thread for users' functions. Got: {error}")
        return None

    def _thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread

    # ---- threads for functions -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._carry_out(job)
            del job  # and the tables that it holds, while the thread waits

    def _carry_out(self, job: _Job) -> None:
        result, error = _run(job)
        with self._changed:
            first = self._settle(job)
        if first:
            _tell(job, result, error)
        self._leave(job, told=first, over=True)

    def _next(self) -> _Job | None:
        """The next job, or None when the node ends."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._idle -= 1
            if self._closed:
                return None
            job = self._waiting.popleft()
            job.begun = True
            self._running.add(job)
            return job

    # ---- the thread for deadlines --------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                late, left = self._settle_late(self._clock())
                refusal = self._refusal()
                stuck = [(job, refusal) for job in self._waiting if refusal is not None and self._settle(job)]
                self._waiting = deque(job for job in self._waiting if not job.settled)
                if not (late or stuck):
                    self._changed.wait(left)
            self._answer([*((job, _late(job)) for job in late), *stuck])

    def _settle_late(self, now: float) -> tuple[list[_Job], float | None]:
        """The jobs whose time is up, to be answered by the caller; and the seconds to the next deadline, if there is one."""
        late, left = [], None
        for job in [*self._running, *self._waiting]:
            if job.until <= now and self._settle(job):
                job.late = True
                late.append(job)
            elif not job.settled:
                left = min(job.until - now, _LONGEST if left is None else left)
        return late, left


def past_deadline() -> bool:
    """Whether the function that this thread runs has run out of time: nobody waits for it any more."""
    job = getattr(_current, "job", None)
    return job is not None and job.settled


def raised(name: str, error: BaseException, where: str = "") -> FunctionFailed:
    """That a function raised `error`, whatever it is: its own text may be without end, or raise."""
    try:
        text = str(error)
    except BaseException as second:
        text = f"(its text cannot be had: {type(second).__name__})"
    text = text[:_TEXT].encode("utf-8", "backslashreplace").decode()
    return FunctionFailed(f"Function {name!r} raised {type(error).__name__}{where}: {text}", function=name)


def _run(job: _Job) -> tuple[Any, SparkPSError | None]:
    _current.job = job
    try:
        return job.work(), None
    except BaseException as error:  # a function may say sys.exit()
        return None, error if isinstance(error, SparkPSError) else raised(job.name, error)
    finally:
        _current.job = None


def _late(job: _Job) -> DeadlineExceeded:
    state = "It still runs, and what it gives will be thrown away." if job.begun else "It waited for a thread all the time."
    return DeadlineExceeded(
        f"Function {job.name!r} must return within {job.seconds:g} s. {state} Give it less to do in each bucket, or raise"
        " `spark.sparkps.requestTimeout`.",
        function=job.name,
    )


def _ending(name: str) -> TierError:
    return TierError(f"A node must stay until {name!r} has returned. The node is ending.", function=name)


def _tell(job: _Job, result: Any, error: SparkPSError | None) -> None:
    _call(lambda: job.done(None, error) if error is not None else job.done(result, None))


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("the end of a server function could not be told")
