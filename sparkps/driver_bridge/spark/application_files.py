"""Where the resource manager keeps the files of an application: they go with it, however it ends."""

from __future__ import annotations

from typing import Any

from sparkps.driver_bridge.spark.master import Master


def application_directory(spark: Any) -> str:
    """URL of the directory for this application's files that every machine sees; empty: there is none.

    YARN has one, ``.sparkStaging/application_...`` in the user's home or below ``spark.yarn.stagingDir``, where Spark puts what it
    submits, and removes it when the application is over (org.apache.spark.deploy.yarn.Client). It may not exist.

    Parameters
    ----------
    spark : SparkSession

    Examples
    --------
    >>> application_directory(spark)                                               # doctest: +SKIP
    'hdfs://namenode:8020/user/alice/.sparkStaging/application_1763820000000_0001'
    """
    context = spark.sparkContext
    if not Master(context.master).is_yarn:
        return ""
    hadoop, configuration = context._jvm.org.apache.hadoop, context._jsc.hadoopConfiguration()
    named = context.getConf().get("spark.yarn.stagingDir", "")
    if named:
        user = hadoop.security.UserGroupInformation.getCurrentUser().getShortUserName()
        home = hadoop.fs.Path(f"{named.rstrip('/')}/{user}")
        home = home.getFileSystem(configuration).makeQualified(home)
    else:
        home = hadoop.fs.FileSystem.get(configuration).getHomeDirectory()
    url = str(home.toString())
    return "" if "://" not in url or url.startswith("file:") else f"{url}/.sparkStaging/{context.applicationId}"


__all__ = ["application_directory"]
