"""The one place that opens a URL for a Python process: as a file system of pyarrow, and a path in it.

================================  =========================================================================================
``hdfs://``                       libhdfs, where pyarrow finds one (ARROW_LIBHDFS_DIR, CLASSPATH), and the tier has no token, which libhdfs
                                  would not take; else WebHDFS, at the address that the Hadoop configuration names, or port 9870
``webhdfs://``, ``swebhdfs://``   WebHDFS at this host and port
``s3a://``, ``s3n://``            as ``s3://``
all others                        whatever pyarrow, or else fsspec, knows: ``file``, ``s3``, ``gs``, ``abfs``, ``memory`` ...
================================  =========================================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sparkps.environment import hadoop_environment
from sparkps.errors import ConfigError
from sparkps.filesystems import held_tokens
from sparkps.filesystems.hadoop_conf import default_authority, read_properties, web_addresses
from sparkps.filesystems.tokens import Token, read_tokens, token_for
from sparkps.filesystems.webhdfs import WebHdfs
from sparkps.filesystems.webhdfs_http import LIMITS, Limits

log = logging.getLogger(__name__)

#: What Hadoop calls a file system that Python knows by another name.
_ALIASES = {"s3a": "s3", "s3n": "s3"}

#: Schemes of WebHDFS, and that of the web.
_WEB = {"webhdfs": "http", "swebhdfs": "https"}

#: Schemes of an HDFS.
_HDFS = ("hdfs", *_WEB)


def open_filesystem(url: str, what: str = "The URL", token: str = "", limits: Limits = LIMITS) -> tuple[Any, str]:
    """The file system of a URL, and the path of the URL in it.

    Parameters
    ----------
    url : str
        With a scheme.
    what : str
        What it is to users, as the start of a sentence.
    token : str
        A delegation token of HDFS, as URLs have it. Empty: that which the tier has given to this process, or else that of
        ``HADOOP_TOKEN_FILE_LOCATION``, if there is one.
    limits : Limits, optional
        Of requests to an HDFS over HTTP.

    Returns
    -------
    (pyarrow.fs.FileSystem, str)

    Raises
    ------
    ConfigError
        Nobody knows such a URL, or what it needs is not installed or not set.

    Examples
    --------
    >>> open_filesystem("file:///tmp/x")[1]
    '/tmp/x'
    """
    scheme, _, rest = url.partition("://")
    if scheme == "hdfs":
        return _hdfs(url, what, token, limits)
    if scheme in _WEB:
        parts = _parts(url, what)
        if not parts.netloc:
            raise ConfigError(f"{what} must name a NameNode's web server, as {scheme}://host:9870/path. Got {url!r}.", url=url)
        user, _, place = parts.netloc.rpartition("@")
        return _as_arrow(_client((f"{_WEB[scheme]}://{place}",), place, user, token, limits)), path_of(url)
    return _known(f"{_ALIASES.get(scheme, scheme)}://{rest}", url, scheme, what)


def can_be_shared(url: str) -> bool:
    """Whether a URL means the same files on every host, as far as its scheme tells: neither a host's nor a process's own."""
    scheme = url.partition("://")[0].lower() if "://" in url else "file"
    return scheme.rpartition("+")[2] not in ("file", "local", "memory", "mock")


def path_of(url: str) -> str:
    """The path of a URL as users write it, and Hadoop reads it: all behind the host, whatever it is (org.apache.hadoop.fs.Path).

    Examples
    --------
    >>> path_of("hdfs://host:8020/run#1/a%20b?"), path_of("hdfs://host")
    ('/run#1/a%20b?', '/')
    """
    return "/" + url.partition("://")[2].partition("/")[2]


def path_of_uri(uri: str) -> str:
    """The path of a URI as Spark lists files, in which what could be taken for something else is escaped.

    Examples
    --------
    >>> path_of_uri("hdfs://host:8020/run%231/a%20b"), path_of_uri("file:/tmp/x")
    ('/run#1/a b', '/tmp/x')
    """
    return unquote(urlsplit(uri).path) or "/"


def webhdfs_of(url: str, token: str = "", limits: Limits = LIMITS) -> WebHdfs:
    """A client of the HDFS of an ``hdfs://`` URL, over HTTP.

    Raises
    ------
    ConfigError
        The URL names no host, and no Hadoop configuration names a default.
    """
    properties = read_properties(hadoop_environment().conf_dirs)
    user, authority = _parts(url, "The URL").netloc.rpartition("@")[0], service_of(url, properties)
    if not authority:
        raise ConfigError(
            f"The URL of an HDFS must name its NameNode, as hdfs://host:8020/path, unless HADOOP_CONF_DIR names a directory whose"
            f" core-site.xml has an hdfs:// as `fs.defaultFS` (outside YARN `spark.hadoop.fs.defaultFS` is known to the JVM alone). Got"
            f" {url!r}.",
            url=url,
        )
    return _client(web_addresses(authority, properties), authority, user, token, limits)


def service_of(url: str, properties: Mapping[str, str] | None = None) -> str:
    """Host and port, or name service, of the HDFS of a URL, by which its token is held; empty: it is no URL of an HDFS.

    Parameters
    ----------
    url : str
    properties : dict, optional
        Of the Hadoop configuration; default: what this process finds.

    Examples
    --------
    >>> service_of("hdfs://ann@namenode:8020/x"), service_of("file:///x")
    ('namenode:8020', '')
    """
    if "://" not in url:
        return ""
    parts = _parts(url, "The URL")
    if parts.scheme not in _HDFS:
        return ""
    place = str(parts.netloc.rpartition("@")[2])
    if place or parts.scheme in _WEB:
        return place
    return default_authority(read_properties(hadoop_environment().conf_dirs) if properties is None else properties)


def web_addresses_of(url: str) -> tuple[str, ...]:
    """Web servers of the NameNodes of an HDFS, by a URL with a host."""
    scheme, service = url.partition("://")[0], service_of(url)
    if scheme in _WEB:
        return (f"{_WEB[scheme]}://{service}",)
    return web_addresses(service, read_properties(hadoop_environment().conf_dirs))


def _hdfs(url: str, what: str, token: str, limits: Limits) -> tuple[Any, str]:
    _parts(url, what)
    libhdfs = None if token or held_tokens.held(service_of(url)) else _libhdfs(url)
    return libhdfs or _as_arrow(webhdfs_of(url, token, limits)), path_of(url)


def _libhdfs(url: str) -> Any | None:
    """The HDFS of a URL through Hadoop's own library; None where that cannot be used."""
    from pyarrow.fs import HadoopFileSystem

    parts = urlsplit(url)
    try:
        return HadoopFileSystem(parts.hostname or "default", parts.port or 0, user=parts.username)
    except (OSError, ImportError) as error:  # not installed, or without its jars
        log.debug("WebHDFS instead of libhdfs: %s", error)
        return None


def _as_arrow(client: WebHdfs) -> Any:
    from sparkps.filesystems.webhdfs_arrow import as_arrow

    return as_arrow(client)


def _client(addresses: tuple[str, ...], authority: str, user: str, token: str, limits: Limits) -> WebHdfs:
    environment = hadoop_environment()
    if token:
        return WebHdfs(addresses, user=user or environment.user, token=token, limits=limits)
    in_file = None if held_tokens.held(authority) else token_for(authority, _tokens(environment.token_file))
    own = in_file.url_string() if in_file is not None else ""
    # A client may outlive a token: the tier's is asked for anew at each request.
    return WebHdfs(addresses, user=user or environment.user, token=lambda: held_tokens.held(authority) or own, limits=limits)


def _tokens(file: str) -> list[Token]:
    """What `HADOOP_TOKEN_FILE_LOCATION` holds."""
    try:
        return read_tokens(Path(file)) if file else []
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"HADOOP_TOKEN_FILE_LOCATION must name a file of Hadoop's credentials, or nothing. Got {file!r}: {error}.", file=file
        ) from None


def _known(spelled: str, url: str, scheme: str, what: str) -> tuple[Any, str]:
    """Whatever pyarrow or fsspec knows."""
    from pyarrow import ArrowInvalid, ArrowNotImplementedError
    from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

    if scheme == "file":
        return LocalFileSystem(), path_of(url)
    try:
        filesystem, path = FileSystem.from_uri(spelled.replace("%", "%25").replace("#", "%23"))
        return filesystem, path
    except (ArrowInvalid, ArrowNotImplementedError) as error:
        first = str(error)  # not a file system of pyarrow's, or not in this build of it
    except OSError as error:
        raise _unknown(url, scheme, what, str(error)) from None
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise _unknown(url, scheme, what, f"{first}; and fsspec is not installed") from None
    try:
        filesystem, path = url_to_fs(spelled)
    except ImportError as error:
        raise _unknown(url, scheme, what, f"{error}; `pip install 'fsspec[{_ALIASES.get(scheme, scheme)}]'`") from None
    except (ValueError, OSError) as error:
        raise _unknown(url, scheme, what, str(error)) from None
    return PyFileSystem(FSSpecHandler(filesystem)), path


def _parts(url: str, what: str) -> Any:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{what} must be a URL, as hdfs://host:8020/path. Got {url!r}: {error}.", url=url) from None


def _unknown(url: str, scheme: str, what: str, why: str) -> ConfigError:
    return ConfigError(
        f"{what} must be of a file system that pyarrow or fsspec can open. Got {url!r}: {why}. Give a path, or install"
        f" on the driver, the executors and all nodes what fsspec needs for {scheme!r}, and set its credentials there.",
        url=url,
    )


__all__ = ["can_be_shared", "open_filesystem", "path_of", "path_of_uri", "service_of", "web_addresses_of", "webhdfs_of"]
