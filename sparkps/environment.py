"""What the environment of a process says: of caches, of Hadoop, of the container. Nothing else reads it."""

from __future__ import annotations

import dataclasses
import getpass
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from sparkps.config import Settings
from sparkps.plain import is_text


def kernel_cache_dir() -> str:
    """Directory of the compiled kernels that the environment names, ``SPARKPS_KERNEL_CACHE_DIR``; empty: none (see `kernels.places`).

    A launcher that was told one (`spark.sparkps.kernelCacheDir`) sets that variable for the processes it starts.
    """
    return os.environ.get("SPARKPS_KERNEL_CACHE_DIR", "")


def variable(name: str) -> str:
    """A variable that a setting names; empty: there is none."""
    return os.environ.get(name, "")


def leave_nccl_to_us() -> None:
    """Let torch's watchdog of NCCL end no process in which a collective fails or waits for long: who has lost a peer meets its successor.

    To be called before a process group is made, unless the user has said how it shall be.
    """
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    os.environ.setdefault("TORCH_NCCL_ENABLE_MONITORING", "0")


def user_cache_dir() -> Path | None:
    """The user's cache directory: ``XDG_CACHE_HOME``, else ``~/.cache``; None for a user without a home."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():  # what is not does not count, says the standard
        return named
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ".cache" if home.is_absolute() else None


def with_client_kernels(settings: Settings, directory: Path | None) -> Settings:
    """`settings` that tell clients to look for compiled kernels in `directory`, if its name can travel in a message."""
    name = str(directory) if directory is not None else ""
    told = name if is_text(name) else ""
    return dataclasses.replace(settings, client=dataclasses.replace(settings.client, kernel_cache_dir=told))


@dataclass(frozen=True)
class HadoopEnvironment:
    """What the environment of a process says of Hadoop."""

    #: Directories of its XML files, the first of which holds; they need not exist.
    conf_dirs: tuple[Path, ...]
    #: In whose name it is spoken to, where nobody has to prove it.
    user: str
    #: File of delegation tokens; empty: none.
    token_file: str


def hadoop_environment() -> HadoopEnvironment:
    """``HADOOP_CONF_DIR`` and others, as Hadoop's own programs read them; in a container of YARN also what Spark has put there."""
    named = [os.environ.get(key, "") for key in ("HADOOP_CONF_DIR", "YARN_CONF_DIR")]
    if home := os.environ.get("HADOOP_HOME", ""):
        named.append(f"{home}/etc/hadoop")
    shipped = Path("__spark_conf__")
    conf_dirs = (shipped / "__hadoop_conf__", shipped, *(Path(one) for one in named if one))
    # In containers, which may run as another user, SPARK_USER is who has submitted the application.
    user = os.environ.get("HADOOP_USER_NAME") or os.environ.get("SPARK_USER") or user_name()
    return HadoopEnvironment(conf_dirs, user, os.environ.get("HADOOP_TOKEN_FILE_LOCATION", ""))


def user_name() -> str:
    """Name of the user of this process; empty for one that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def python_is_named() -> bool:
    """Whether the user has said which Python Spark's workers run, by ``PYSPARK_PYTHON``."""
    return "PYSPARK_PYTHON" in os.environ


def under_spark_submit() -> bool:
    """Whether spark-submit has started this process: the Spark that it uses is its parent's, and ends with that."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def machine_of_container() -> str:
    """Name of the machine that a container runs on, where its environment tells: ``SPARKPS_HOST``, which pod templates set, or YARN's."""
    return os.environ.get("SPARKPS_HOST", "") or os.environ.get("NM_HOST", "")


def child_environment(settings: Settings) -> dict[str, str]:
    """Environment of the processes that a launcher starts."""
    environment = dict(os.environ)
    if settings.kernel_cache_dir:
        environment["SPARKPS_KERNEL_CACHE_DIR"] = settings.kernel_cache_dir
    first = [entry for entry in sys.path if Path(entry).is_file()]  # of `--py-files`: on a Python worker's path, and not in the environment
    if not _looks_in_working_directory():  # nor may they: a module there can have the name of one of Python's own
        environment["PYTHONSAFEPATH"] = "1"
        first.extend(_place_of_this_package())
    if first:
        inherited = environment.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*first, *filter(None, inherited)]))
    # One kernel call runs on one thread of the node's own pool; a second pool beneath it would only fight for cores.
    environment.setdefault("OMP_NUM_THREADS", "1")
    return environment


def _looks_in_working_directory() -> bool:
    """Whether this process imports modules from its working directory."""
    here = Path.cwd()
    return any(Path(entry or ".").absolute() == here for entry in sys.path)


def _place_of_this_package() -> list[str]:
    """The directory that has the package, where it is not installed: what a process needs on its path."""
    place = str(Path(__file__).parent.parent)
    return [] if place in sysconfig.get_paths().values() else [place]
