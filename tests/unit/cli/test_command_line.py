"""What the command ``sparkps`` takes and refuses, before anything is started."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

import sparkps
from sparkps.cli import commands, main, start
from sparkps.cli.arguments import parser
from sparkps.driver_bridge.launchers.processes import checked_command, filled_in
from sparkps.errors import CheckpointError, ConfigError
from sparkps.secret import TierSecret
from sparkps.secret_files import read_secret_file
from sparkps.wire.messages import control as c

COMMANDS = ("start", "status", "tables", "scale", "drain", "stop")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """The command says what is logged in its process."""
    yield
    for name in ("sparkps", "sparkps.cli"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def settings_of(line: str) -> Any:
    return start.settings_of(parser().parse_args(["tier", "start", *line.split()]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tier", command, "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"usage: sparkps tier {command}" in said
    assert "--secret-file" in said


@pytest.mark.parametrize("words", [[], ["tier"], ["--help"], ["tier", "--help"]])
def test_the_commands_are_listed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr()
    assert ended.value.code == (0 if "--help" in words else 2)
    assert "tier" in said.out + said.err
    if words == ["tier", "--help"]:
        assert all(re.search(rf"^ +{command} ", said.out, re.MULTILINE) for command in COMMANDS)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"sparkps {sparkps.__version__}\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tier scale 0 --url sparkps://h:1", "between 1 and 256, got '0'"),
        ("tier scale two --url sparkps://h:1", "between 1 and 256, got 'two'"),
        ("tier start --ttl never", "as 90s, 10m, 12h or 30d, got 'never'"),
        ("tier start --ttl 0", "got '0'"),
        ("tier start --conf numNodes=2", "spark.KEY=VALUE, got 'numNodes=2'"),
        ("tier start --hosts a --spark", "not allowed with argument"),
        ("tier start --hosts ,", "it must be names or addresses of hosts"),
        ("tier start --replication 4", "invalid choice"),
        ("tier status", "--url"),
        ("tier start --det", "unrecognized arguments"),
    ],
)
def test_wrong_lines_are_refused(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tier start --start-command ssh", "for nodes on other hosts. Got them without `--hosts`"),
        ("tier start --checkpoint-every 10m", "`--checkpoint-every` needs `--checkpoint-dir`"),
        ("tier start --log x", "in the background (`--detach`)"),
        ("tier start --conf spark.master=yarn", "sparkps's own, `spark.sparkps....`. Got 'spark.master'"),
        ("tier start --conf spark.sparkps.numNode=3", "did you mean `spark.sparkps.numNodes`"),
        ("tier start --nodes 1 --replication 2", "`--replication` must be at most the number of nodes, 1"),
        ("tier start --hosts a,-oProxyCommand=x", "A host must be a name or an address. Got '-oProxyCommand=x'"),
        ("tier start --hosts a --start-command ssh", "a place for the node's own command, {command}"),
        ("tier status --url http://h:1", "The URL of a tier must be sparkps://host:port"),
        ("tier status --url sparkps://h", "The URL of a tier must be sparkps://host:port"),
        ("tier start --bind ::1", "`spark.sparkps.coordinatorBindAddress` must be a name or an IPv4 address of a host or empty; IPv6"),
        ("tier start --advertise fe80::1", "`spark.sparkps.coordinatorAddress` must be a name or an IPv4 address"),
        ("tier start --hosts a,::1", "IPv6 is not supported. Got '::1' in `--hosts`"),
        ("tier start --conf spark.sparkps.nodeBindAddress=::1", "must be a name or an IPv4 address of a host, or `$NAME`"),
        ("tier status --url sparkps://[::1]:7077", "with a name or an IPv4 address (IPv6 is not supported)"),
        ("tier status --url sparkps://h:1/x", "The URL of a tier must be sparkps://host:port"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    line: str, says: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret_file = tmp_path / "secret"
    start.secret_in(secret_file)
    assert main([*line.split(), "--secret-file", str(secret_file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("sparkps: ")
    assert says in said
    assert said.count("\n") == 1


# ---- settings ----------------------------------------------------------------------------------------------------------


def test_options_become_settings() -> None:
    line = "--nodes 3 --replication 2 --port 7077 --bind 0.0.0.0 --advertise gateway --ttl 12h"
    found = settings_of(line + " --conf spark.sparkps.nodeMemory=1g")
    assert (found.num_nodes, found.replication, found.table_ttl, found.node.node_memory) == (3, 2, 43_200.0, 1 << 30)
    network = found.network
    assert (network.coordinator_port, network.coordinator_bind_address, network.coordinator_address) == (7077, "0.0.0.0", "gateway")
    assert found.node.heartbeat_deadline == 2.5, "with copies others take over soon"


@pytest.mark.parametrize(
    ("line", "nodes"),
    [("", 2), ("--hosts a,b,c", 3), ("--hosts a,b,c --nodes 2", 2), ("--hosts a --conf spark.sparkps.numNodes=4", 4)],
)
def test_there_are_as_many_nodes_as_hosts_if_nothing_is_said(line: str, nodes: int) -> None:
    assert settings_of(line).num_nodes == nodes


def test_with_spark_settings_wait_for_those_of_the_session(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may say that there are four nodes for three copies."""
    asked: list[Any] = []

    def tier_in_spark(arguments: Any, secret: TierSecret) -> Any:
        asked.append(start.settings_of(arguments, {"spark.sparkps.numNodes": "4"}))
        raise ConfigError("far enough")

    monkeypatch.setattr("sparkps.cli.in_spark.tier_in_spark", tier_in_spark)
    assert main(["tier", "start", "--spark", "--replication", "3", "--secret-file", str(tmp_path / "secret")]) == 1
    assert [(each.num_nodes, each.replication) for each in asked] == [(4, 3)]


def test_what_spark_submit_has_started_is_not_left_behind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "4711")
    assert main(["tier", "start", "--spark", "--detach"]) == 1
    assert "cannot be left in the background by `--detach`" in capsys.readouterr().err


def test_one_in_the_background_that_hangs_is_ended(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\necho it hangs\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(start.sys, "executable", str(hangs))
    monkeypatch.setattr(start, "start_limit", lambda _: 0.3)
    assert main(["tier", "start", "--detach", "--secret-file", str(tmp_path / "secret")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "must run within 0.3 s" in said.err
    assert "it hangs" in said.err
    assert "(exit status -15)" in said.err


def test_one_in_the_background_has_neither_this_terminal_nor_what_is_typed_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, log = tmp_path / "tier", tmp_path / "log"
    program.write_text(
        "#!/bin/sh\n"
        "for word; do ready=$word; done\n"
        'echo "session $(cut -d" " -f6 /proc/$$/stat) of $$, reads $(readlink /proc/$$/fd/0)"\n'
        "echo sparkps://h:1 > /proc/$$/fd/$ready\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(start.sys, "executable", str(program))
    with typed_at():
        assert main(["tier", "start", "--detach", "--log", str(log), "--secret-file", str(tmp_path / "secret")]) == 0
    said = capsys.readouterr()
    assert said.out == "sparkps://h:1\n"
    pid = re.search(r"process (\d+)", said.err)
    assert pid is not None
    assert log.read_text() == f"session {pid[1]} of {pid[1]}, reads /dev/null\n", "Ctrl-C, and the end of the terminal, do not reach it"


@contextlib.contextmanager
def typed_at() -> Iterator[None]:
    """Standard input is a pipe, as a terminal would be one."""
    before, (reading, writing) = os.dup(0), os.pipe()
    try:
        os.dup2(reading, 0)
        yield
    finally:
        os.dup2(before, 0)
        for each in (before, reading, writing):
            os.close(each)


def test_who_is_told_where_a_tier_is_finds_its_tables_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(start, "helped", lambda *_, **__: contextlib.nullcontext())
    arguments = parser().parse_args(["tier", "start", "--secret-file", str(tmp_path / "secret")])
    address, done = SimpleNamespace(coordinator="tcp://h:1"), []
    tier: Any = SimpleNamespace(start=lambda: done.append("start"), address=address, settings=SimpleNamespace(num_nodes=1))

    def step(name: str) -> None:
        done.append((name, capsys.readouterr().out))

    keeper: Any = SimpleNamespace(restore=lambda: step("restore"), run=lambda: step("run"))
    ends: Any = SimpleNamespace(keeper=None)
    assert start._kept(arguments, tier, keeper, ends) is None
    assert done == ["start", ("restore", ""), ("run", "sparkps://h:1\n")]
    assert ends.keeper is keeper

    def fails() -> None:
        raise CheckpointError("none is sound")

    keeper.restore = fails
    with pytest.raises(CheckpointError):
        start._kept(arguments, tier, keeper, ends)
    assert capsys.readouterr().out == ""


class FakeConnection:
    """Takes requests down, each with its time."""

    url, tier_id = "sparkps://h:1", "t"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, float | None]] = []

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *_: object) -> None: ...

    def request(self, message: Any, timeout: float | None = None) -> Any:
        self.asked.append((message, timeout))
        return SimpleNamespace(report={"num_nodes": 4, "ending": {"refused": 0, "why": ""}, "tier_id": "t"})


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> FakeConnection:
    made = FakeConnection()
    monkeypatch.setattr(commands, "_connected", lambda _: made)
    monkeypatch.setattr(commands, "LOOK_EVERY", 0.0)
    return made


@pytest.mark.parametrize(
    ("line", "message", "seconds"),
    [
        ("scale 3", c.ScaleTier(0, 3, 600.0), 600.0),
        ("scale 5 --timeout 7s", c.ScaleTier(0, 5, 7.0), 7.0),
        ("drain 3", c.DrainNode(0, 3, 600.0), 600.0),
        ("drain 0 --timeout 2m", c.DrainNode(0, 0, 120.0), 120.0),
    ],
)
def test_what_is_asked_for_is_what_was_typed(connection: FakeConnection, line: str, message: Any, seconds: float) -> None:
    assert main(["tier", *line.split(), "--url", "sparkps://h:1"]) == 0
    assert connection.asked[0] == (message, seconds + commands.ANSWER_GRACE)


@pytest.mark.parametrize("discard", [False, True])
def test_an_end_is_waited_for(
    connection: FakeConnection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], discard: bool
) -> None:
    looks = [False, False, True]
    monkeypatch.setattr(commands, "_has_ended", lambda tier, given: looks.pop(0) if given == discard else None)
    assert main(["tier", "stop", "--url", "sparkps://h:1", *(["--discard"] if discard else [])]) == 0
    assert looks == []
    assert [message for message, _ in connection.asked if isinstance(message, c.AskToStop)] == [c.AskToStop(0, discard)]
    assert capsys.readouterr().out == "The tier has ended.\n"


def test_an_end_is_waited_for_no_longer_than_was_said(
    connection: FakeConnection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "_has_ended", lambda *_: False)
    assert main(["tier", "stop", "--url", "sparkps://h:1", "--timeout", "100ms"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "must end within 0.1 s. It has not" in said.err


def test_a_start_may_take_as_long_as_what_belongs_to_it() -> None:
    def limit(line: str) -> float:
        return start.start_limit(parser().parse_args(["tier", "start", *line.split()]))

    assert limit("--conf spark.sparkps.startTimeout=5m") == limit("") + 240
    assert limit("--checkpoint-dir /x") > limit("") + 60
    assert limit("--spark") > limit("") + 60


def test_without_detach_the_line_is_the_same() -> None:
    line = ["tier", "start", "--detach", "--log", "a.log", "--nodes", "2", "--log=b.log"]
    assert start._without_detach(line) == ["tier", "start", "--nodes", "2"]


# ---- secrets -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_made_once_and_read_by_its_owner_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "below" / "secret"
    made = start.secret_in(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert start.secret_in(path) == made == read_secret_file(path)


def test_first_starts_at_once_get_one_secret(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, together = tmp_path / "secret", threading.Barrier(4, timeout=20)
    exists = pathlib.Path.exists

    def seen_by_all_at_once(self: pathlib.Path, **named: Any) -> bool:
        found = exists(self, **named)
        if self == path:
            together.wait()
        return found

    monkeypatch.setattr(pathlib.Path, "exists", seen_by_all_at_once)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(start.secret_in, [path] * 4))
    monkeypatch.undo()
    assert set(found) == {read_secret_file(path)}
    assert [file.name for file in tmp_path.iterdir()] == ["secret"], "nothing is left beside it"


def test_a_secret_that_others_can_read_is_not_used(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "secret"
    start.secret_in(path)
    path.chmod(0o640)
    assert main(["tier", "start", "--secret-file", str(path)]) == 1
    assert "readable by its owner alone" in capsys.readouterr().err
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_said_of_a_tier_names_the_file_and_not_what_is_in_it(tmp_path: pathlib.Path) -> None:
    secret = start.secret_in(tmp_path / "secret")
    said = start.how_to_use("sparkps://gateway:7077", tmp_path / "secret", 2)
    assert str(tmp_path / "secret") in said
    assert secret.text not in said
    assert TierSecret.parse((tmp_path / "secret").read_text()).text == secret.text


# ---- commands on hosts -------------------------------------------------------------------------------------------------


def test_a_command_is_one_word_for_the_shell_there() -> None:
    words = filled_in("ssh -p 2222 {host} nice {command}", "n1", ["python", "-m", "x", "a b", "$HOME"])
    assert words == ["ssh", "-p", "2222", "n1", "nice", "python -m x 'a b' '$HOME'"]


@pytest.mark.parametrize("template", ["ssh {host}", "", "ssh '{host"])
def test_a_command_without_a_place_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="a place for the node's own command"):
        checked_command(template)
