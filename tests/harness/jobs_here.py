"""A job of `jobs/` in the process of the test, on its Spark session: a program of its own would start another one, for half a minute."""

from __future__ import annotations

import pathlib
import runpy
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


class JobHere:
    """A job.

    Parameters
    ----------
    name : str
        Of its file, without ``.py``.
    directory : Path
        What ``{here}`` in arguments stands for: the paths of a job in this process must be absolute.
    always : str
        Further arguments of each run.
    """

    def __init__(
        self, name: str, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], always: str = ""
    ) -> None:
        self._always = always
        self._path, self._directory, self._monkeypatch, self._capsys = ROOT / f"jobs/{name}.py", directory, monkeypatch, capsys

    def said(self, arguments: str) -> str:
        """What it prints."""
        words = [word.replace("{here}", str(self._directory)) for word in f"{arguments} {self._always}".split()]
        self._monkeypatch.syspath_prepend(self._path.parent)  # as for a program
        self._monkeypatch.setattr(sys, "argv", [self._path.name, *words])
        self._capsys.readouterr()
        runpy.run_path(str(self._path), run_name="__main__")
        return self._capsys.readouterr().out
