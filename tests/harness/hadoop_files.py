"""What a Hadoop on loopback needs: jars, from Maven and from pyspark, kept beside other caches of this user."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import zipfile

import pyspark

#: Where pyspark keeps Spark's jars.
SPARK_JARS = pathlib.Path(pyspark.__file__).parent / "jars"

#: Times that a download is tried, and seconds of each.
_TRIES, _DOWNLOAD = 4, 300

#: Artefacts that pyspark lacks, `{}` for its version of Hadoop.
_ARTEFACTS = (
    "org.apache.hadoop:hadoop-client-minicluster:{}",
    "org.bouncycastle:bcprov-jdk18on:1.78.1",
    "org.bouncycastle:bcpkix-jdk18on:1.78.1",
    "org.bouncycastle:bcutil-jdk18on:1.78.1",
)

#: Jars of pyspark that Hadoop's daemons need.
_OF_SPARK = ("hadoop-client-api-", "hadoop-client-runtime-", "slf4j-api-", "log4j-", "jcl-over-slf4j-", "javax.servlet-api-")


def hadoop_version() -> str:
    """The version of Hadoop that pyspark has, as '3.5.0'."""
    found = [re.fullmatch(r"hadoop-client-api-(.+)\.jar", path.name) for path in SPARK_JARS.iterdir()]
    versions = [match[1] for match in found if match]
    assert len(versions) == 1, f"{SPARK_JARS} must have one hadoop-client-api. Got {versions}."
    return versions[0]


def cache_folder() -> pathlib.Path:
    """Where jars and archives are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "sparkps" / f"hadoop-{hadoop_version()}"


def java() -> str:
    """The program that runs Java; empty if there is none."""
    home = os.environ.get("JAVA_HOME")
    return (shutil.which(f"{home}/bin/java") if home else shutil.which("java")) or ""


def why_not() -> str:
    """Why no Hadoop can be started here; empty if it can."""
    if not pathlib.Path("/proc/self/stat").exists():
        return "Hadoop's daemons are watched through /proc, which this system has not"
    if not java():
        return "no java was found: set JAVA_HOME, or install a JDK of version 17 or newer"
    missing = [_jar_of(one).name for one in _ARTEFACTS if not _jar_of(one).exists()]
    if missing and shutil.which("mvn") is None:
        return f"no mvn was found on PATH, and {cache_folder()} lacks {', '.join(missing)}"
    return ""


def classpath() -> list[str]:
    """Jars of the daemons; downloads those that are not here yet."""
    for artefact in _ARTEFACTS:
        if not _jar_of(artefact).exists():
            _download(artefact.format(hadoop_version()), _jar_of(artefact))
    from_spark = [path for path in sorted(SPARK_JARS.iterdir()) if path.name.startswith(_OF_SPARK)]
    return [str(path) for path in [*map(_jar_of, _ARTEFACTS), *from_spark]]


def _jar_of(artefact: str) -> pathlib.Path:
    _, name, version = artefact.format(hadoop_version()).split(":")
    return cache_folder() / f"{name}-{version}.jar"


def _download(artefact: str, jar: pathlib.Path) -> None:
    """Fetch an artefact with Maven, again where that fails; others may do the same at the same time."""
    jar.parent.mkdir(parents=True, exist_ok=True)
    said = ""
    with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
        command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artefact}", f"-DoutputDirectory={folder}"]
        for _ in range(_TRIES):
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD, check=False)
            except subprocess.TimeoutExpired:
                said = f"no answer within {_DOWNLOAD} s"
                continue
            said = done.stdout + done.stderr
            if (pathlib.Path(folder) / jar.name).exists():
                (pathlib.Path(folder) / jar.name).replace(jar)
                return
    raise AssertionError(f"Maven must fetch {artefact}. {_TRIES} tries failed; the last said:\n{said[-3000:]}")


def spark_archive() -> pathlib.Path:
    """A zip of Spark's jars for ``spark.yarn.archive``, not compressed; made once."""
    archive = cache_folder() / f"spark-{pyspark.__version__}-jars.zip"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            made = pathlib.Path(folder) / archive.name
            with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as jars:
                for path in sorted(SPARK_JARS.glob("*.jar")):
                    jars.write(path, path.name)
            made.replace(archive)
    return archive


__all__ = ["SPARK_JARS", "cache_folder", "classpath", "hadoop_version", "java", "spark_archive", "why_not"]
