"""The one task of a Spark job that runs a node: on the executor, it starts the node's process and lives as long as that.

The node is a process of its own, with nothing of Spark in it. What it writes goes to the executor's log; its last lines are in the error
with which the task fails, and Spark tries the task again then. The process ends with the task, however that goes: the task holds
the other end of its standard input.

Spark may run several attempts of a task: a retry, while an executor that it has given up lives on, or a speculative copy. Only one of
them has a node at a time; others wait until that is gone. So a node is never lost to its own copy: Spark kills all other attempts
when one has ended in good order.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sparkps.client.control import ControlClient
from sparkps.config import Settings
from sparkps.driver_bridge.launchers import executor_host
from sparkps.driver_bridge.launchers.children import LAST_LINES, node_options, speak_first
from sparkps.environment import child_environment
from sparkps.errors import SparkPSError, TierError
from sparkps.lifeline import PLACE_TAKEN
from sparkps.secret import secret_of
from sparkps.secret_files import for_stdin
from sparkps.wire.messages.control import NodeGone, TierAddress, TierStatus

#: Seconds between two looks whether another attempt's node is still up.
LOOK_EVERY = 1.0

#: Seconds that the first attempt at a job has for its node to join, before a copy starts one.
FIRST_WITHIN = 10.0

#: Seconds that a node has to exit when its task is interrupted.
END_WITHIN = 5.0

#: Seconds between two looks whether a node that runs is dead to its tier; one that does not hang ends by itself between two of them.
LOOK_FOR_HUNG = 5.0

log = logging.getLogger(__name__)

_ENDING = ("stopping", "stopped")


class NodeProcess:
    """The process of a node; what it writes goes to this process's standard error.

    Parameters
    ----------
    command : list of str
    environment : mapping
    first_words : bytes
        Written to its standard input at once.
    """

    def __init__(self, command: list[str], environment: dict[str, str], first_words: bytes = b"") -> None:
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # it says goodbye when its task is gone; a signal to the task's group would end it before
        )
        self._reader = threading.Thread(target=self._read, name="sparkps-node-log", daemon=True)
        self._reader.start()
        speak_first(self._process, first_words)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode(errors="replace")
            self.last_lines.append(text.rstrip("\n"))
            sys.stderr.write(text)
            sys.stderr.flush()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for its end; the exit status, below 0 the signal. None: it has not ended in time."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(END_WITHIN)
        return status

    def kill(self) -> None:
        """It does not end by itself."""
        self._process.kill()

    def fate(self) -> str:
        """What became of it, in one phrase."""
        status = self._process.returncode
        how = f"exited with status {status}" if status >= 0 else f"was killed by signal {-status}"
        return f"process {self._process.pid} {how}"

    def end(self) -> None:
        """End it, if it runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_WITHIN)
        self._process.stdout.close()


@dataclass(frozen=True)
class NodeTask:
    """The function of the task. Picklable.

    Attributes
    ----------
    address : TierAddress
    settings : Settings
    job : int
        Number of the launcher's job.
    """

    address: TierAddress
    settings: Settings
    job: int

    def __call__(self, rows: Iterable[Any]) -> Iterator[Any]:
        """Run the node until it is told to stop; gives nothing."""
        from pyspark import TaskContext

        for _ in rows:
            continue
        context = TaskContext.get()
        assert context is not None, "runs in a Spark task"
        control = ControlClient(self.address.coordinator, self.address.control_timeout, secret_of(self.address))
        try:
            while not self._has_ended(control, context.taskAttemptId(), context.attemptNumber() == 0):
                continue
        finally:
            control.close()
        return iter(())

    def _has_ended(self, control: ControlClient, attempt: int, is_first: bool = True) -> bool:
        """Run the node once, when no other attempt has one; False: another attempt was faster.

        Parameters
        ----------
        control : ControlClient
        attempt : int
            Spark's number of it.
        is_first : bool
            Whether it is no retry and no copy: it was sent to where the node shall be, and others leave it some time to start.

        Raises
        ------
        TierError
            The node has ended though nobody told it to; Spark tries the task again.
        """
        known_as = executor_host.spark_name()
        machine = executor_host.machine(known_as)
        if not self._wait_for_turn(control, machine, 0.0 if is_first else FIRST_WITHIN):
            return True
        node = NodeProcess(self._command(attempt, known_as, machine), self._environment(), for_stdin(secret_of(self.address)))
        try:
            status = self._status_of(node, control, attempt)
        finally:
            node.end()
        if status == PLACE_TAKEN:  # its rival may be gone by now, and that is no failure of this attempt
            return False
        if status == 0:
            return True
        self._tell(control, attempt, node.fate())
        is_over, states = self._state(control, machine)
        if is_over or "up" in states:
            return is_over
        lines = "\n".join(node.last_lines)
        raise TierError(
            f"A node must run until it is told to stop. That of job {self.job} on {machine}: {node.fate()}. The end of its log:\n{lines}"
        )

    def _status_of(self, node: NodeProcess, control: ControlClient, attempt: int) -> int:
        """Wait for the node's end. One that the tier has declared dead, and that does not end by that, hangs: another takes its place."""
        looks = 0
        while (status := node.wait(LOOK_FOR_HUNG)) is None:
            looks = looks + 1 if self._is_dead(control, attempt) else 0
            if looks > 1:
                log.warning("the node of job %d is dead to its tier and goes on: it is killed", self.job)
                node.kill()
        return status

    def _is_dead(self, control: ControlClient, attempt: int) -> bool:
        with contextlib.suppress(SparkPSError):  # who cannot be asked now may be asked later
            nodes = control.request(TierStatus(0, fresh=False)).report["nodes"]
            return any(each.get("job") == self.job and each.get("attempt") == attempt and each["state"] == "dead" for each in nodes)
        return False

    def _command(self, attempt: int, known_as: str, machine: str) -> list[str]:
        network = self.settings.network
        bind, advertise = executor_host.addresses(self.address.coordinator, known_as, network.node_bind_address, network.node_address)
        threads = self.settings.node_threads or self.settings.node_cores
        command = [sys.executable, "-m", "sparkps.ps_nodes", "--coordinator", self.address.coordinator]
        command += ["--bind", f"tcp://{bind}:{network.node_ports or 0}", "--advertise", advertise, "--host", machine]
        command += ["--threads", str(threads)]
        command += ["--job", str(self.job), "--attempt", str(attempt), "--watch-stdin", "--watch-parent"]
        return [*command, *node_options(self.settings, secret_of(self.address))]

    def _environment(self) -> dict[str, str]:
        # The task's own search path: packages may have come with the application.
        return {**child_environment(self.settings), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def _wait_for_turn(self, control: ControlClient, machine: str, patience: float) -> bool:
        """Wait while another attempt's node is up, or may yet come up; False: the tier has ended meanwhile."""
        began, pause = time.monotonic(), threading.Event()
        was_reached = False
        while True:
            try:
                is_over, states = self._state(control, machine)
            except TierError:
                if was_reached:  # and will not come back: the driver has given up, or is gone
                    return False
                raise
            was_reached = True
            is_starting = not states and time.monotonic() - began < patience
            if is_over or not ("up" in states or is_starting):
                return not is_over
            pause.wait(LOOK_EVERY)

    def _state(self, control: ControlClient, machine: str) -> tuple[bool, set[str]]:
        """Whether the tier ends, and the states of all nodes that this job has had."""
        try:
            report = control.request(TierStatus(0, fresh=False)).report
        except SparkPSError as error:
            raise TierError(
                f"An executor that runs a node must reach the coordinator at the driver. That on {machine} does not reach"
                f" {self.address.coordinator}: {error} Set `spark.driver.host` to a name or an address of the driver's machine that the"
                " executors reach, and let them connect to its ports.",
                endpoint=self.address.coordinator,
            ) from None
        return report["state"] in _ENDING, {node["state"] for node in report["nodes"] if node.get("job") == self.job}

    def _tell(self, control: ControlClient, attempt: int, fate: str) -> None:
        """Tell the coordinator that the node is gone: others lead what it led at once."""
        with contextlib.suppress(SparkPSError):  # `_state` says what is wrong
            control.request(NodeGone(0, "", fate, attempt))


__all__ = ["NodeProcess", "NodeTask"]
