"""Scripted scenarios: every file of `testdata` says what comes of its commands.

``SPARKPS_REWRITE=1 python -m pytest tests/scenarios/test_scripts.py`` writes what came of them into the files: look at the difference.
"""

from __future__ import annotations

import os
import pathlib

import pytest

from sparkps.errors import InvalidInput
from sparkps.testing import script_commands, scripts

FILES = sorted((pathlib.Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_script_has_the_outcome_that_its_file_says(path: pathlib.Path) -> None:
    scripts.check(path, rewrite=bool(os.environ.get("SPARKPS_REWRITE")))


def test_a_script_is_the_same_whenever_it_runs() -> None:
    texts = [path.read_text() for path in FILES]
    assert [scripts.run(text) for text in texts] == [scripts.run(text) for text in reversed(texts)][::-1]


def test_an_outcome_that_is_not_as_expected_is_shown_with_its_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("# A comment.\n\nnodes 1\nsparse w\npull w 1\n----\nok\nok\n1=5\n")
    with pytest.raises(AssertionError, match=r"wrong.txt, line 9: expected \['1=5'\], got \['1=0'\]"):
        scripts.check(path)
    scripts.check(path, rewrite=True)
    assert path.read_text().endswith("1=0\n")
    scripts.check(path)


def test_a_block_without_an_end_is_refused() -> None:
    with pytest.raises(InvalidInput, match="after its commands. Got none after 'nodes 1'"):
        scripts.run("nodes 1\nsparse w\n")


def test_commands_are_added_by_their_names() -> None:
    @scripts.command
    def shout(script: scripts.Script, word: str, times: str = "1") -> str:
        return " ".join([word.upper()] * int(times))

    try:
        assert scripts.run("shout hello times=2\n----\n") == "shout hello times=2\n----\nHELLO HELLO\n"
    finally:
        del script_commands.WORLD["shout"]


def test_every_command_says_how_it_is_written() -> None:
    for name, function in {**script_commands.WORLD, **script_commands.CLIENT}.items():
        assert (function.__doc__ or "").startswith(f"``{name}"), name
