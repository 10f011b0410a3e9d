"""Delegation tokens of HDFS, from the driver's JVM: it has the user's Kerberos ticket, or what the cluster gave to the application."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError

from sparkps.filesystems.tokens import KINDS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


def obtain_token(spark: SparkSession, url: str, renewer: str) -> str:
    """A delegation token for the file system of a URL, as URLs have it; empty where that issues none, and the driver holds none.

    Parameters
    ----------
    spark : SparkSession
    url : str
        ``hdfs://...``, or any other that Hadoop knows.
    renewer : str
        User who may renew it.
    """
    context = spark.sparkContext
    jvm, configuration = context._jvm, context._jsc.hadoopConfiguration()
    assert jvm is not None, "the session runs"
    try:
        filesystem = jvm.org.apache.hadoop.fs.Path(url).getFileSystem(configuration)
        issued = filesystem.getDelegationToken(renewer)
        if issued is not None:
            return str(issued.encodeToUrlString())
        service = filesystem.getCanonicalServiceName()
        if service is None:  # a file system without tokens
            return ""
    except Py4JJavaError as error:  # who came by a token, as in cluster mode, is given no other one
        log.debug("no new delegation token for %s: %s", url, error)
        service = None
    return held_token(spark, jvm.org.apache.hadoop.security.UserGroupInformation.getCurrentUser(), service)


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


__all__ = ["held_token", "obtain_token"]
