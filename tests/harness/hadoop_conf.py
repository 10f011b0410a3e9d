"""Configuration of a Hadoop on loopback: its XML files, ports, and the names of its hosts."""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

#: Addresses of the NodeManagers; all else is on the first.
HOSTS = ("127.0.0.1", "127.0.0.2")

#: First port that is tried, and after the last: below those that systems give to outgoing connections.
_PORTS = range(12_000, 32_000)

_LOGGING = """\
rootLogger.level = info
rootLogger.appenderRef.stdout.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n%ex
"""


def hdfs_site(data: pathlib.Path, web: str, *, tokens: bool) -> dict[str, object]:
    """Properties of HDFS, whose NameNode has its web server at `web`."""
    return {
        "dfs.namenode.name.dir": data / "names",
        "dfs.datanode.data.dir": data / "blocks",
        "dfs.namenode.http-address": web,
        "dfs.namenode.safemode.extension": 0,
        "dfs.namenode.datanode.registration.ip-hostname-check": False,
        "dfs.namenode.delegation.token.always-use": tokens,
        "dfs.datanode.hostname": HOSTS[0],
        "dfs.datanode.address": f"{HOSTS[0]}:0",
        "dfs.datanode.http.address": f"{HOSTS[0]}:0",
        "dfs.datanode.ipc.address": f"{HOSTS[0]}:0",
        "dfs.webhdfs.enabled": True,
        "dfs.replication": 1,
        "dfs.permissions.enabled": False,
    }


def yarn_site(addresses: list[str], memory_mb: int, vcores: int, *, pmem_check: bool) -> dict[str, object]:
    """Properties of YARN; the first of the ResourceManager's five addresses is that of its web server."""
    manager = ("webapp.address", "address", "scheduler.address", "resource-tracker.address", "admin.address")
    return {
        "yarn.resourcemanager.hostname": HOSTS[0],
        **{f"yarn.resourcemanager.{key}": address for key, address in zip(manager, addresses, strict=True)},
        "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 200,
        "yarn.resourcemanager.connect.retry-interval.ms": 200,  # NodeManagers need not wait for it to be there
        "yarn.scheduler.minimum-allocation-mb": 128,
        "yarn.scheduler.maximum-allocation-mb": memory_mb,
        "yarn.scheduler.maximum-allocation-vcores": vcores,
        "yarn.nodemanager.resource.memory-mb": memory_mb,
        "yarn.nodemanager.resource.cpu-vcores": vcores,
        "yarn.nodemanager.vmem-check-enabled": False,
        "yarn.nodemanager.pmem-check-enabled": pmem_check,
        "yarn.nodemanager.disk-health-checker.enable": False,
        "yarn.nodemanager.resource-monitor.interval-ms": 500,
    }


def host_names() -> str:
    """All names that daemons know. Addresses come first as names, so that YARN and Spark call hosts by these, wherever this runs."""
    lines = [f"{host} {host}" for host in HOSTS] + [f"{HOSTS[0]} localhost {socket.gethostname()}"]
    return "\n".join([*lines, ""])


def write_configuration(folder: pathlib.Path, files: Mapping[str, Mapping[str, object]]) -> None:
    """A directory for HADOOP_CONF_DIR: names of XML files and their properties; and how daemons log."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, properties in files.items():
        lines = [
            f"<property><name>{escape(key)}</name><value>{escape(_text(value))}</value></property>"
            for key, value in properties.items()
        ]
        (folder / name).write_text("\n".join(["<configuration>", *lines, "</configuration>", ""]))
    (folder / "log4j2.properties").write_text(_LOGGING)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def free_ports(host: str) -> Iterator[int]:
    """Ports on which nobody listens, one after the other. Where a run begins differs, so that two seldom ask for the same."""
    start = os.getpid() * 37 % len(_PORTS)
    for port in [*_PORTS[start:], *_PORTS[:start]]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        yield port


__all__ = ["HOSTS", "free_ports", "hdfs_site", "host_names", "write_configuration", "yarn_site"]
