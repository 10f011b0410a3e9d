"""A tier of plain processes at TCP endpoints, for others to attach to: on this machine, or on the hosts of a list. No Spark is needed.

Nodes are child processes, as in `local`. On another host a node is started by a command, such as ssh's, whose standard input is the node's:
the secret goes through it, and when it ends the node does, so that nothing outlives the process that has started the tier. A machine that
loses its power ends no connection: how soon its nodes elsewhere end is for the command's other side to say (sshd: ``ClientAliveInterval``).
"""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Sequence

from sparkps.config import Settings
from sparkps.driver_bridge.launchers.children import Child, node_options
from sparkps.driver_bridge.launchers.executor_host import said_here, towards
from sparkps.driver_bridge.launchers.local import LocalTier
from sparkps.errors import ConfigError, TierError
from sparkps.secret import TierSecret
from sparkps.wire.messages.control import NodeGone

#: How a node is started on a host, if nothing else is said; a host that says nothing for a minute is gone, and so is its node.
START_COMMAND = "ssh -o BatchMode=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=4 {host} {command}"

#: An address that an environment variable of a node's host says: of ``--advertise``, or within ``--bind``.
_ON_HOST = re.compile(r"(?:(?<=\Atcp://)|\A)\$([A-Za-z_][A-Za-z0-9_]*)(?=\Z|:)")

#: Whoever ends a service tells all its processes at once; these are still needed then, for the last checkpoint, and end with their parent.
_DEAF_TO_TERM = ("sh", "-c", 'trap "" TERM; exec "$@"', "sh")

#: What listens at all addresses is not an address that others reach.
_ALL = ("0.0.0.0", "*")


class ProcessTier(LocalTier):
    """A tier of processes at TCP endpoints; it ends with this process.

    Parameters
    ----------
    settings : Settings
        ``network.coordinator_bind_address`` and ``coordinator_address`` say where the coordinator listens, and how others call that; by
        default this machine alone reaches it, or, with `hosts`, all that reach this machine.
    secret : TierSecret
    hosts : sequence of str
        Names or addresses of the machines that nodes run on, or ``user@name``, as the start command enters them; none: this one.
    start_command : str
        For each host: ``{host}`` stands for its name, ``{command}`` for the node's command, as one word that a shell takes apart.
    python : str
        The interpreter on the hosts, which must have sparkps; empty: that of this process.

    Raises
    ------
    ConfigError
        A command without its places, or an address that is none of this machine.

    Examples
    --------
    >>> tier = ProcessTier(Settings(num_nodes=2), TierSecret.new()).start()      # doctest: +SKIP
    >>> tier.stop()                                                              # doctest: +SKIP
    """

    def __init__(
        self, settings: Settings, secret: TierSecret, hosts: Sequence[str] = (), start_command: str = START_COMMAND, python: str = ""
    ) -> None:
        self._hosts = list(hosts)
        self._start_command = checked_command(start_command)
        self._python = python or sys.executable
        self._listens_at, self._known_as = _addresses(settings, self._hosts)
        self._port = _port(self._listens_at, settings.network.coordinator_port)
        #: By the number of a node, its host. Owner: `_lock`.
        self._host_of: dict[str, str] = {}
        super().__init__(settings, secret)

    def _child(self, name: str, command: list[str]) -> Child:
        return super()._child(name, [*_DEAF_TO_TERM, *command])

    def _advertised(self) -> str:
        return f"tcp://{self._known_as}:{self._port}"

    def _bound(self) -> str:
        return f"tcp://{self._listens_at}:{self._port}"

    # ---- nodes, by their numbers: at which port one listens it says when it joins --------------------------------------

    def _start_node(self, number: int) -> None:
        name, host = str(number), self._next_host()
        self._host_of[name] = host
        command = self._here(number) if not host else filled_in(self._start_command, host, self._there(number, host))
        self._nodes[name] = self._child(f"node{number}", command)

    def _next_host(self) -> str:
        """The host with the fewest nodes, the first of several; "" for this machine."""
        running = [self._host_of[name] for name, child in self._nodes.items() if not child.exited.is_set()]
        return min(self._hosts, key=running.count, default="")

    def _here(self, number: int) -> list[str]:
        network = self._settings.network
        bind = said_here("nodeBindAddress", network.node_bind_address) or self._listens_at
        advertise = said_here("nodeAddress", network.node_address) or self._known_as
        return [*self._node_command(sys.executable, number, bind, advertise, self._threads()), "--watch-parent"]

    def _there(self, number: int, host: str) -> list[str]:
        network, name = self._settings.network, name_of_host(host)
        bind, advertise = network.node_bind_address or "0.0.0.0", network.node_address or name
        command = self._node_command(self._python, number, bind, advertise, self._settings.node_threads)
        # as `child_environment` has it for nodes here
        variables = ["OMP_NUM_THREADS=1"]
        if self._settings.kernel_cache_dir:
            variables.append(f"SPARKPS_KERNEL_CACHE_DIR={self._settings.kernel_cache_dir}")
        return ["env", *variables, *expanding([*command, "--host", name])]

    def _node_command(self, python: str, number: int, bind: str, advertise: str, threads: int) -> list[str]:
        network = self._settings.network
        command = [python, "-m", "sparkps.ps_nodes", "--coordinator", self.address.coordinator]
        command += ["--bind", f"tcp://{bind}:{network.node_ports or 0}", "--advertise", advertise, "--threads", str(threads)]
        command += ["--job", str(number), "--attempt", str(number), "--watch-stdin"]
        return [*command, *node_options(self._settings, self.secret)]

    def _name_of(self, node: dict[str, object]) -> str:
        return str(node.get("job", ""))

    def _gone(self, name: str, reason: str) -> NodeGone:
        return NodeGone(0, "", reason, int(name))

    def _check_nodes(self) -> None:
        for name, child in self._nodes.items():
            host = self._host_of[name]
            if child.exited.is_set() and host:
                raise TierError(
                    f"Nodes must start on {host} by {shlex.join(shlex.split(self._start_command))!r}. One has not: {child.ending()}\nThe"
                    " command must run a shell command there without asking anything, and the Python there must have sparkps (`--python`)."
                )
        super()._check_nodes()


def checked_command(template: str) -> str:
    """A command that starts nodes on hosts, if it has places for both.

    Raises
    ------
    ConfigError
    """
    try:
        words = shlex.split(template)
    except ValueError:
        words = []
    if not any("{command}" in word for word in words):
        raise ConfigError(
            "A command that starts a node on a host must have a place for the node's own command, {command}, and for the host's name,"
            f" {{host}}, as {START_COMMAND!r}. Got {template!r} instead."
        )
    return template


def filled_in(template: str, host: str, command: Sequence[str]) -> list[str]:
    """The words of a command that starts a node on a host.

    Examples
    --------
    >>> filled_in("ssh {host} {command}", "n1", ["python", "-m", "a b"])
    ['ssh', 'n1', "python -m 'a b'"]
    """
    return [word.replace("{host}", host).replace("{command}", shlex.join(command)) for word in shlex.split(template)]


def name_of_host(host: str) -> str:
    """The name or address of a host of the list, which may say as whom it is entered.

    Examples
    --------
    >>> name_of_host("ann@n1"), name_of_host("n1")
    ('n1', 'n1')
    """
    return host.rpartition("@")[2]


def expanding(command: Sequence[str]) -> list[str]:
    """A command whose addresses that are ``$NAME`` mean an environment variable of the host that it runs on.

    Examples
    --------
    >>> expanding(["node", "--bind", "tcp://0.0.0.0:0"])
    ['node', '--bind', 'tcp://0.0.0.0:0']
    >>> expanding(["node", "--advertise", "$NODE_IP"])[:2]
    ['sh', '-c']
    """
    if not any(_ON_HOST.search(word) for word in command):
        return list(command)
    unset = "must be set on each host with nodes, where sparkps starts them (spark.sparkps.nodeBindAddress, spark.sparkps.nodeAddress)"
    words = []
    for word in command:
        found = _ON_HOST.search(word)
        if found is None:
            words.append(shlex.quote(word))
        else:
            before, after = shlex.quote(word[: found.start()]), shlex.quote(word[found.end() :])
            words.append(f'{before}"${{{found[1]}:?{unset}}}"{after}')
    return ["sh", "-c", "exec " + " ".join(words)]


def _addresses(settings: Settings, hosts: Sequence[str]) -> tuple[str, str]:
    """Where the coordinator listens, as an address, and the name or address by which others reach it."""
    network = settings.network
    bind = network.coordinator_bind_address or ("0.0.0.0" if hosts else "127.0.0.1")
    try:
        listens_at = bind if bind in _ALL else socket.gethostbyname(bind)
    except OSError as error:
        raise ConfigError(
            f"A tier must listen at an address of this machine. Got {bind!r}: {error.strerror or error}. Set `--bind` to a name or an"
            " address of this machine, or to 0.0.0.0 for all of them.",
            key="spark.sparkps.coordinatorBindAddress",
        ) from None
    known_as = network.coordinator_address or (bind if bind not in _ALL else _address_towards(hosts))
    return listens_at, known_as


def _address_towards(hosts: Sequence[str]) -> str:
    """This machine as the first of some hosts reaches it; without hosts, its name."""
    try:
        return towards(f"tcp://{name_of_host(hosts[0])}:1") if hosts else socket.gethostname()
    except OSError as error:
        raise ConfigError(
            f"The hosts of nodes must be names or addresses that this machine reaches. Got {hosts[0]!r}: {error.strerror or error}."
        ) from None


def _port(listens_at: str, asked: int) -> int:
    """A TCP port at which nobody listens: the one that is asked for, or with 0 any.

    Raises
    ------
    ConfigError
        There is none.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a tier that has just ended it is free, too
        try:
            probe.bind(("" if listens_at in _ALL else listens_at, asked))
        except OSError as error:
            raise ConfigError(
                f"A tier must listen at an address of this machine, and at a port that is free. Got {listens_at}:{asked or 'any'}:"
                f" {error.strerror}. Does a tier run there already? Set `--port` and `--bind` to others, or leave them out.",
                key="spark.sparkps.coordinatorPort",
            ) from None
        port: int = probe.getsockname()[1]
        return port


__all__ = ["START_COMMAND", "ProcessTier", "checked_command", "expanding", "filled_in", "name_of_host"]
