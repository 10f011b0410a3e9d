"""Fixtures of all tests, and the checks that no test leaves a process or a thread behind."""

from __future__ import annotations

import gc
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.harness.jvm import SHORT_LIVED
from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparkps import PSContext

ROOT = pathlib.Path(__file__).resolve().parent.parent

#: Directories whose tests may start processes.
PROCESS_LEVELS = frozenset({"cluster", "deep", "faults", "spark"})

#: Directories whose tests need Spark -> time limit of each, in seconds.
SPARK_LIMITS = {"spark": 120, "deep": 120, "yarn": 300}

#: Seconds that processes and threads have to end after their test.
GRACE = 10.0


def pytest_configure(config: pytest.Config) -> None:
    """Let nodes, coordinators and Spark's Python workers import `sparkps` and `tests` wherever they are started."""
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("SPARK_SUBMIT_OPTS", " ".join(SHORT_LIVED))
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.pop("SPARK_HOME", None)


def _level(item: pytest.Item) -> str:
    """The directory under tests/ that holds `item`."""
    parts = item.path.relative_to(ROOT / "tests").parts
    return parts[0] if len(parts) > 1 else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Spark, and give it more time: the start of a session or a cluster counts in the first test."""
    for item in items:
        level = _level(item)
        if level in SPARK_LIMITS:
            item.add_marker(getattr(pytest.mark, level))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SPARK_LIMITS[level]))


def tier_processes() -> dict[int, str]:
    """Pid and command line of the node and coordinator processes of this user that hang on this test run.

    Those that lost their parent count as well, where they were started by this interpreter.
    """
    found = {}
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        command = process.info["cmdline"] or []
        modules = [word for word in command if word.startswith("sparkps.")]
        if modules and command[0] == sys.executable and process.info["status"] != psutil.STATUS_ZOMBIE:
            found[process.info["pid"]] = " ".join(command)
    return {pid: command for pid, command in found.items() if _is_ours(pid)}


def _is_ours(pid: int) -> bool:
    """Whether `pid` descends from this process, or is an orphan of it (its environment carries our run's mark)."""
    try:
        process = psutil.Process(pid)
        return os.getpid() in {parent.pid for parent in process.parents()} or (
            process.environ().get("SPARKPS_TEST_RUN") == os.environ["SPARKPS_TEST_RUN"]
        )
    except psutil.Error:
        return False


# Marks every process that this run starts, orphans too; several runs may share a machine.
os.environ["SPARKPS_TEST_RUN"] = f"{os.getpid()}-{time.time_ns()}"


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a node, a coordinator or a thread that keeps the interpreter alive.

    What a fixture of wider scope holds was there before the test and is not counted.
    """
    starts_processes = _level(request.node) in PROCESS_LEVELS and request.node.get_closest_marker("renews_nodes") is None
    threads = set(threading.enumerate())
    processes = set(tier_processes()) if starts_processes else set()
    yield

    def new_threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t not in threads and not t.daemon and t.is_alive()]

    def new_processes() -> dict[int, str]:
        now = tier_processes() if starts_processes else {}
        return {pid: command for pid, command in now.items() if pid not in processes}

    if not wait_until(lambda: not new_threads(), GRACE):
        pytest.fail(f"the test left threads behind: {new_threads()}")
    if starts_processes and not wait_until(lambda: not new_processes(), GRACE, 0.1):
        pytest.fail(f"the test left processes behind: {new_processes()}")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The directory of real data beside the project; tests that need it are skipped where it is missing."""
    directory = ROOT.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"real data sets are looked for in {directory}, which does not exist")
    return directory


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A Spark session of two task slots, `local[2]`, shared by all tests of a run."""
    from pyspark.sql import SparkSession

    scratch = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[2]")
        .appName("sparkps-tests")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.memory", "2g")
        .config("spark.local.dir", str(scratch / "local"))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
    gc.collect()


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A local tier of two nodes, shared by the tests of a module: let them name their tables apart."""
    from sparkps import PSContext

    with PSContext(spark, num_nodes=2) as context:
        yield context
