"""Delegation tokens of HDFS, from the driver's JVM: it has the user's Kerberos ticket, or what the cluster gave to the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError, Py4JJavaError

from sparkps.driver_bridge.spark.session import has_stopped
from sparkps.filesystems.hadoop_conf import uses_tokens
from sparkps.filesystems.tokens import KINDS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: What `spark.kerberos.access.hadoopFileSystems` is to Spark: file systems beside the default one for which the application has tokens.
_MORE = "spark.kerberos.access.hadoopFileSystems"

#: Properties that say whether tokens are used.
_SECURITY = ("hadoop.security.authentication", "dfs.namenode.delegation.token.always-use")


class Obtained(NamedTuple):
    """A token, or why there is none."""

    #: As URLs have it; empty: there is none. A secret.
    text: str = ""
    #: It was issued for this tier, which so may end it.
    is_new: bool = False
    why: str = ""

    def __repr__(self) -> str:
        return f"Obtained(is_new={self.is_new}, why={self.why!r})"


def obtain_token(spark: SparkSession, url: str, renewer: str = "") -> Obtained:
    """A delegation token for the file system of a URL: a new one, or where none is issued one that the driver holds.

    Parameters
    ----------
    spark : SparkSession
    url : str
        ``hdfs://...``, or any other that Hadoop knows.
    renewer : str, optional
        User who may renew it; default: the JVM's own.
    """
    context = spark.sparkContext
    if has_stopped(context):
        return Obtained(why="the SparkSession was stopped")
    jvm, configuration = context._jvm, context._jsc.hadoopConfiguration()
    assert jvm is not None, "the session runs"
    service, why = None, "it issues none"
    try:
        user = jvm.org.apache.hadoop.security.UserGroupInformation.getCurrentUser()
        filesystem = jvm.org.apache.hadoop.fs.Path(url).getFileSystem(configuration)
        service = filesystem.getCanonicalServiceName()
        if service is None:  # a file system without tokens
            return Obtained(why=why)
        issued = filesystem.getDelegationToken(renewer or user.getShortUserName())
        if issued is not None:
            return Obtained(str(issued.encodeToUrlString()), is_new=True)
    except Py4JJavaError as error:  # who came by a token, as in cluster mode, is given no other one
        why = _first_line(error)
    except Py4JError as error:
        return Obtained(why=f"the JVM does not answer: {error}")
    held = held_token(spark, user, service)
    return Obtained(held, why="" if held else why)


def _first_line(error: Py4JJavaError) -> str:
    lines = str(error.java_exception).strip().splitlines()
    return lines[0] if lines else "an error of Java's"


def held_token(spark: SparkSession, user: Any, service: str | None) -> str:
    """The token that a user of the JVM has, of a service, or if that is not known the only one of any HDFS; empty: none.

    Parameters
    ----------
    spark : SparkSession
    user : JavaObject
        A UserGroupInformation.
    service : str or None
    """
    jvm = spark.sparkContext._jvm
    assert jvm is not None, "the session runs"
    tokens = [one for one in jvm.java.util.ArrayList(user.getTokens()) if one.getKind().toString() in KINDS]
    named = [one for one in tokens if one.getService().toString() == service]
    found = named or (tokens if service is None and len(tokens) == 1 else [])
    return str(found[0].encodeToUrlString()) if found else ""


def tokens_are_used(spark: SparkSession) -> bool:
    """Whether the session's Hadoop configuration says that processes need tokens."""
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    return uses_tokens({key: value for key in _SECURITY if (value := configuration.get(key)) is not None})


def known_filesystems(spark: SparkSession) -> list[str]:
    """URLs of the file systems that an application is known to use from its start: the default one, and those that Spark is told of."""
    context = spark.sparkContext
    more = context.getConf().get(_MORE, "") or ""
    default = context._jsc.hadoopConfiguration().get("fs.defaultFS") or ""
    return [one.strip() for one in (default, *more.split(",")) if one.strip()]


__all__ = ["Obtained", "held_token", "known_filesystems", "obtain_token", "tokens_are_used"]
