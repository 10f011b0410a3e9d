"""What a process knows of Hadoop: properties of its XML files, and where a NameNode's web server is. No file system is touched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

#: Files of a configuration directory; Spark puts all that the submitter knew in the last one.
_FILES = ("core-site.xml", "hdfs-site.xml", "__spark_hadoop_conf__.xml")

#: Ports of a NameNode's web server, where nothing else is said.
HTTP_PORT, HTTPS_PORT = 9870, 9871

#: Port of a NameNode where a URL names none.
RPC_PORT = 8020

#: Rounds in which ``${...}`` in values is replaced.
_ROUNDS = 20


def read_properties(directories: Iterable[Path]) -> dict[str, str]:
    """The properties in the directories' files; what an earlier directory says holds. Files that are missing or broken do not count.

    Parameters
    ----------
    directories : iterable of Path
    """
    found: dict[str, str] = {}
    for directory in directories:
        for name in _FILES:
            for key, value in _of_file(directory / name).items():
                found.setdefault(key, value)
    return {key: _expanded(value, found) for key, value in found.items()}


def _of_file(path: Path) -> dict[str, str]:
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return {}
    pairs = ((one.findtext("name") or "", one.findtext("value")) for one in root.iter("property"))
    return {name.strip(): value.strip() for name, value in pairs if name.strip() and value is not None}


def _expanded(value: str, properties: Mapping[str, str]) -> str:
    """``${name}`` replaced by the value of that property; unknown ones stay."""
    for _ in range(_ROUNDS):
        made = re.sub(r"\$\{([^}$\s]+)\}", lambda match: properties.get(match[1], match[0]), value)
        if made == value:
            break
        value = made
    return value


def default_authority(properties: Mapping[str, str]) -> str:
    """Host and port, or name service, of ``fs.defaultFS`` where that is an HDFS; else empty."""
    scheme, _, rest = properties.get("fs.defaultFS", properties.get("fs.default.name", "")).partition("://")
    return rest.partition("/")[0] if scheme == "hdfs" else ""


def _spelled_out(authority: str) -> str:
    """Host and port of a NameNode: names of hosts have no case, and the port that Hadoop takes is not always written."""
    host, port = (authority.rpartition(":")[::2]) if re.search(r":[0-9]+$", authority) else (authority, str(RPC_PORT))
    return f"{host.lower()}:{port}"


def uses_tokens(properties: Mapping[str, str]) -> bool:
    """Whether an HDFS issues delegation tokens, and processes without a login of their own need one.

    Examples
    --------
    >>> uses_tokens({"hadoop.security.authentication": "kerberos"}), uses_tokens({})
    (True, False)
    """
    always = properties.get("dfs.namenode.delegation.token.always-use", "").lower() == "true"
    return always or properties.get("hadoop.security.authentication", "simple").lower() != "simple"


def web_addresses(authority: str, properties: Mapping[str, str]) -> tuple[str, ...]:
    """Addresses of the web servers of an HDFS's NameNodes, of which one is active.

    Parameters
    ----------
    authority : str
        Of an ``hdfs://`` URL: a host with or without a port, or a name service.
    properties : dict
        From `read_properties`.

    Examples
    --------
    >>> web_addresses("namenode:9820", {})
    ('http://namenode:9870',)
    >>> of_two = {"dfs.ha.namenodes.main": "a, b", "dfs.namenode.http-address.main.a": "host1:50070"}
    >>> web_addresses("main", {**of_two, "dfs.namenode.rpc-address.main.b": "host2:8020"})
    ('http://host1:50070', 'http://host2:9870')
    """
    secure = properties.get("dfs.http.policy", "").upper() == "HTTPS_ONLY"
    scheme, port = ("https", HTTPS_PORT) if secure else ("http", HTTP_PORT)

    def address(suffix: str, host: str) -> str:
        named = properties.get(f"dfs.namenode.{scheme}-address{suffix}", "")
        if not named:
            return f"{scheme}://{host}:{port}"
        name, _, number = named.rpartition(":")
        return f"{scheme}://{host if name in ('0.0.0.0', '[::]', '') else name}:{number}"

    def rpc_host(suffix: str, otherwise: str) -> str:
        return properties.get(f"dfs.namenode.rpc-address{suffix}", otherwise).partition(":")[0]

    members = [one.strip() for one in properties.get(f"dfs.ha.namenodes.{authority}", "").split(",") if one.strip()]
    if members:
        suffixes = [f".{authority}.{member}" for member in members]
        return tuple(address(suffix, rpc_host(suffix, authority)) for suffix in suffixes)
    services = [one.strip() for one in properties.get("dfs.nameservices", "").split(",")]
    if authority in services:
        return (address(f".{authority}", rpc_host(f".{authority}", authority)),)
    host = authority.rpartition(":")[0] if re.search(r":[0-9]+$", authority) else authority
    ours = _spelled_out(authority) in map(_spelled_out, (default_authority(properties), properties.get("dfs.namenode.rpc-address", "")))
    return (address("", host) if ours else f"{scheme}://{host}:{port}",)


__all__ = ["HTTPS_PORT", "HTTP_PORT", "default_authority", "read_properties", "uses_tokens", "web_addresses"]
