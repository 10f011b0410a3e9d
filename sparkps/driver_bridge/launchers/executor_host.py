"""Where a Spark task runs, as other executors know it: asked on the executor."""

from __future__ import annotations

import contextlib
import os
import socket
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from sparkps.config import PREFIX
from sparkps.environment import machine_of_container, variable
from sparkps.errors import ConfigError

#: Ancestors of a Python task that are looked through for the executor's JVM: Python's daemon is one of them.
_GENERATIONS = 6


def spark_name(proc: Path = Path("/proc")) -> str:
    """The name or address by which Spark knows the executor of this task, as its command line has it; empty where none does."""
    pid = os.getppid()
    for _ in range(_GENERATIONS):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "--hostname" in words[:-1]:
                return words[words.index("--hostname") + 1]
            pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return ""


def towards(endpoint: str) -> str:
    """This machine's address on the way to a TCP endpoint; no packet is sent.

    Raises
    ------
    OSError
        There is no way.

    Examples
    --------
    >>> towards("tcp://127.0.0.1:7077")
    '127.0.0.1'
    """
    target = urlsplit(endpoint)
    family, kind, _, _, address = socket.getaddrinfo(target.hostname, target.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        name: str = probe.getsockname()[0]
        return name


def addresses(coordinator: str, known_as: str, bind: str = "", advertise: str = "") -> tuple[str, str]:
    """Where a node binds, and the name or address by which others reach it.

    Spark's own name for the executor is the one by which executors fetch blocks from each other. Where it cannot be resolved, or is
    a loopback address while the coordinator is elsewhere, it is this machine's address on the way to the coordinator.

    Parameters
    ----------
    coordinator : str
        Its endpoint.
    known_as : str
        From `spark_name`.
    bind, advertise : str
        What settings say instead: an address, or ``$NAME`` of an environment variable here.

    Raises
    ------
    ConfigError
        There is no such variable here.

    Examples
    --------
    >>> addresses("tcp://127.0.0.1:7077", "127.0.0.1")
    ('127.0.0.1', '127.0.0.1')
    """
    binds, advertised = said_here("nodeBindAddress", bind), said_here("nodeAddress", advertise)
    if binds and advertised:
        return binds, advertised
    found_bind, found = _found(coordinator, known_as)
    return binds or found_bind, advertised or binds or found


def said_here(setting: str, value: str) -> str:
    """The value of a setting on this host.

    Parameters
    ----------
    setting : str
        Its key, without the prefix, for the message.
    value : str
        As it was given: an address, or ``$NAME`` of an environment variable here.

    Raises
    ------
    ConfigError
        There is no such variable here.
    """
    if not value.startswith("$"):
        return value
    found = variable(value[1:])
    if not found:
        raise ConfigError(
            f"`{PREFIX}{setting}` names an environment variable that must be set on each host with nodes. {value!r} is not on"
            f" {socket.gethostname()}.",
            key=PREFIX + setting,
        )
    return found


def _found(coordinator: str, known_as: str) -> tuple[str, str]:
    way = towards(coordinator)
    resolved = ""
    with contextlib.suppress(OSError):
        resolved = socket.gethostbyname(known_as) if known_as else ""
    if not resolved or (ip_address(resolved).is_loopback and not ip_address(way).is_loopback):
        return way, way
    return resolved, resolved


def machine(known_as: str) -> str:
    """Name of the machine, for copies of rows to be on different ones."""
    return machine_of_container() or known_as or socket.gethostname()


__all__ = ["addresses", "machine", "said_here", "spark_name", "towards"]
