"""``sparkps tier start``: a tier that this process starts, and keeps for others."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparkps.checkpoints.claims import Claim
from sparkps.checkpoints.patience import PATIENCE
from sparkps.checkpoints.store import CheckpointStore
from sparkps.cli.beside import helped
from sparkps.cli.keeper import Keeper
from sparkps.cli.output import numbered
from sparkps.client.attaching import url_of
from sparkps.config import PREFIX, Settings
from sparkps.driver_bridge import checkpointing
from sparkps.driver_bridge.launchers.launched import LaunchedTier
from sparkps.driver_bridge.launchers.processes import START_COMMAND, ProcessTier
from sparkps.driver_bridge.launchers.warming import COMPILE_LIMIT
from sparkps.environment import child_environment, under_spark_submit
from sparkps.errors import ConfigError, SparkPSError
from sparkps.secret import TierSecret, forget
from sparkps.secret_files import new_secret_file, read_secret_file

log = logging.getLogger(__name__)

#: What ends a tier in order.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Exit status of a tier that was told to end before it ran.
TERMINATED = 143

#: Seconds that one operation on the claim's file may take.
CLAIM_WITHIN = 10.0

#: Seconds that a start in the background may take beside what has a limit of its own, and that an application of Spark may take to begin.
START_GRACE, SPARK_WITHIN = 30.0, 900.0

#: Seconds that one which has not started in time has to end.
END_WITHIN = 10.0

#: Lines of the log that are shown of a tier in the background that does not start.
_LAST_LINES = 15


def start(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Start a tier, say where it is, and keep it until it is told to end.

    Parameters
    ----------
    arguments : argparse.Namespace
    words : sequence of str
        The command line that they were read from.

    Returns
    -------
    int
        Exit status.
    """
    _check(arguments)
    if arguments.detach:
        return _in_the_background(arguments, words)
    settings = None if arguments.spark else settings_of(arguments)  # where Spark has more of them it must be there first
    store = _store(arguments)
    secret = secret_in(arguments.secret_file.expanduser())
    with _at_signals() as ends, _claimed(store) as claim:
        tier = _tier(arguments, settings, secret)
        ends.listen()  # Spark has taken Ctrl-C for itself
        try:
            why = _kept(arguments, tier, Keeper(tier, store, arguments.checkpoint_every or 0.0, claim), ends)
        finally:
            tier.stop()
            forget(tier.address.tier_id)
    if why is not None:
        raise why
    log.info("the tier has ended")
    return 0


def _kept(arguments: argparse.Namespace, tier: LaunchedTier, keeper: Keeper, ends: _Ends) -> SparkPSError | None:
    """Start a tier, bring back what it had, say where it is, and keep it; why it has ended by itself, if it has."""
    tier.start()
    with helped(tier, is_in_spark=arguments.spark, checkpoint_dir=arguments.checkpoint_dir):
        restored = keeper.restore()
        ends.keeper = keeper
        _tell(arguments, url_of(tier.address.coordinator), tier.settings.num_nodes)
        if restored is not None:
            log.info("all tables are as they were in checkpoint %s", restored.id)
        return keeper.run()


def _claimed(store: CheckpointStore | None) -> contextlib.AbstractContextManager[Claim | None]:
    """No other tier has this directory of checkpoints."""
    return contextlib.nullcontext() if store is None else Claim(CheckpointStore(store.url, PATIENCE.within(CLAIM_WITHIN)))


# ---- what is asked for -------------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.hosts and (arguments.start_command or arguments.python):
        raise ConfigError("`--start-command` and `--python` are for nodes on other hosts. Got them without `--hosts`.")
    if arguments.checkpoint_every and not arguments.checkpoint_dir:
        raise ConfigError("`--checkpoint-every` needs `--checkpoint-dir`, where checkpoints are written.")
    if arguments.log is not None and not arguments.detach:
        raise ConfigError("`--log` is for a tier in the background (`--detach`). In the foreground its log is standard error.")
    if arguments.detach and arguments.spark and under_spark_submit():
        raise ConfigError(
            "With `--spark`, a tier that spark-submit has started ends with that, and cannot be left in the background by `--detach`. Put"
            " spark-submit itself there (`nohup spark-submit ... &`), or run `sparkps tier start --spark --detach --conf spark.master=...`"
            " without it."
        )
    if not arguments.spark:
        foreign = [key for key, _ in arguments.conf if not key.startswith(PREFIX)]
        if foreign:
            raise ConfigError(f"Without `--spark`, settings must be sparkps's own, `{PREFIX}...`. Got {', '.join(map(repr, foreign))}.")


def hosts_of(arguments: argparse.Namespace) -> list[str]:
    """The hosts that nodes run on; none: this machine."""
    hosts = [host.strip() for host in (arguments.hosts or "").split(",") if host.strip()]
    for host in hosts:
        if host.startswith("-"):  # ssh would take it for an option
            raise ConfigError(f"A host must be a name or an address. Got {host!r} in `--hosts`.")
        if ":" in host:
            raise ConfigError(f"A host must be a name or an IPv4 address: IPv6 is not supported. Got {host!r} in `--hosts`.")
    return hosts


def settings_of(arguments: argparse.Namespace, conf: dict[str, str] | None = None) -> Settings:
    """The settings of the tier: those of `conf` and ``--conf``, with options in place of theirs."""
    given = {**(conf or {}), **dict(arguments.conf)}
    hosts = hosts_of(arguments)
    settings = Settings.parse({key: value for key, value in given.items() if key.startswith(PREFIX)})
    options: dict[str, Any] = {"replication": arguments.replication, "table_ttl": arguments.ttl, "num_nodes": arguments.nodes}
    if hosts and arguments.nodes is None and PREFIX + "numNodes" not in given:
        options["num_nodes"] = len(hosts)
    network = {
        "coordinator_port": arguments.port,
        "coordinator_bind_address": arguments.bind,
        "coordinator_address": arguments.advertise,
    }
    settings = dataclasses.replace(
        settings,
        **{name: value for name, value in options.items() if value is not None},
        network=dataclasses.replace(settings.network, **{name: value for name, value in network.items() if value is not None}),
    )
    if settings.replication > settings.num_nodes:
        raise ConfigError(
            f"`--replication` must be at most the number of nodes, {settings.num_nodes}: the copies of a row are on different nodes. Got"
            f" {settings.replication}.",
            key=PREFIX + "replication",
        )
    return settings if PREFIX + "heartbeatDeadline" in given else settings.for_replicas()


def _store(arguments: argparse.Namespace) -> CheckpointStore | None:
    return None if arguments.checkpoint_dir is None else checkpointing.writable_store_at(arguments.checkpoint_dir)


def secret_in(path: Path) -> TierSecret:
    """The secret in a file; a new one, and a file for it, where there is none. Starts at once with one file get one secret.

    Raises
    ------
    ConfigError
        There is a file that others may read, or that holds something else; or none can be written.
    """
    if not path.exists():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"The directory of the secret file must be there. Got {error.strerror!r} for {str(path.parent)!r}."
            ) from None
        new_secret_file(path)
    return read_secret_file(path)


def _tier(arguments: argparse.Namespace, settings: Settings | None, secret: TierSecret) -> LaunchedTier:
    if settings is None:
        from sparkps.cli.in_spark import tier_in_spark

        return tier_in_spark(arguments, secret)
    return ProcessTier(settings, secret, hosts_of(arguments), arguments.start_command or START_COMMAND, arguments.python)


# ---- the end -----------------------------------------------------------------------------------------------------------


class _Ends:
    """What a signal ends: the keeper, or, before there is one, the start."""

    keeper: Keeper | None = None

    def listen(self) -> None:
        """Have signals from now on."""
        for number in _SIGNALS:
            signal.signal(number, self.told)

    def told(self, number: int, frame: Any) -> None:
        """A signal handler."""
        if self.keeper is None:
            sys.exit(TERMINATED)
        self.keeper.stop()


@contextlib.contextmanager
def _at_signals() -> Iterator[_Ends]:
    """SIGTERM and Ctrl-C end the tier in order."""
    ends = _Ends()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ends.listen()
    try:
        yield ends
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- what is said ------------------------------------------------------------------------------------------------------


def _tell(arguments: argparse.Namespace, url: str, num_nodes: int) -> None:
    """The URL on standard output, for scripts; how to use it on standard error."""
    if arguments.ready_fd is not None:
        with os.fdopen(arguments.ready_fd, "w") as parent:
            parent.write(url + "\n")
    else:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()
    sys.stderr.write(how_to_use(url, arguments.secret_file.expanduser().absolute(), num_nodes))
    sys.stderr.flush()


def how_to_use(url: str, secret_file: Path, num_nodes: int) -> str:
    """What somebody must know who has started a tier."""
    return (
        f"The tier runs with {numbered(num_nodes, 'node')}. Whoever may read {secret_file} may use it:\n"
        f"  Spark    --conf {PREFIX}attach={url} --conf {PREFIX}secretFile={secret_file}\n"
        f'  Python   sparkps.connect("{url}", secret_file="{secret_file}")\n'
        f"  shell    sparkps tier status --url {url} --secret-file {secret_file}\n"
        f"  its end  sparkps tier stop --url {url} --secret-file {secret_file}\n"
    )


# ---- in the background -------------------------------------------------------------------------------------------------


def _in_the_background(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Let another process do it, out of reach of this terminal; return when it runs, or has failed."""
    secret_file = arguments.secret_file.expanduser()
    secret_in(secret_file)
    log_file = arguments.log or secret_file.with_name(secret_file.name + ".log")
    reads, writes = os.pipe()
    try:
        with log_file.open("ab") as output:
            begin = output.tell()
            command = [sys.executable, "-m", "sparkps", *_without_detach(words), "--ready-fd", str(writes)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environment(Settings()),
                pass_fds=[writes],
                start_new_session=True,
            )
    except OSError as error:
        os.close(reads)
        raise ConfigError(f"The log of the tier must be writable (`--log`). Got {error.strerror!r} for {str(log_file)!r}.") from None
    finally:
        os.close(writes)
    limit = start_limit(arguments)
    with os.fdopen(reads) as ready:
        is_late = not select.select([ready], [], [], limit)[0]
        url = "" if is_late else ready.readline().strip()
    if not url:
        if is_late:
            sys.stderr.write(f"sparkps: a tier must run within {limit:g} s of its start. It does not, and is ended.\n")
            _end(process)
        status = process.wait()
        said = log_file.read_bytes()[begin:].decode(errors="replace").splitlines()
        sys.stderr.write("\n".join([*said[-_LAST_LINES:], f"sparkps: the tier has not started (exit status {status}); see {log_file}.\n"]))
        return 1
    process.returncode = 0  # it goes on: nobody waits for it here
    sys.stdout.write(url + "\n")
    sys.stdout.flush()
    sys.stderr.write(f"The tier runs in the background, process {process.pid}; its log is {log_file}.\n")
    return 0


def start_limit(arguments: argparse.Namespace) -> float:
    """Seconds that a start may take, by the limits of all that belongs to it; what goes on longer than that hangs."""
    given = Settings.parse({key: value for key, value in arguments.conf if key.startswith(PREFIX)})
    limit = COMPILE_LIMIT + given.start_timeout + START_GRACE
    if arguments.spark:
        limit += SPARK_WITHIN
    if arguments.checkpoint_dir is not None:
        limit += checkpointing.LIMIT
    return limit


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()


def _without_detach(words: Sequence[str]) -> list[str]:
    """The same command line, without what is for the process in the foreground."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in ("--detach", "--log"):
            skip = word == "--log"
        elif not word.startswith("--log="):
            kept.append(word)
    return kept


__all__ = ["TERMINATED", "hosts_of", "how_to_use", "secret_in", "settings_of", "start", "start_limit"]
