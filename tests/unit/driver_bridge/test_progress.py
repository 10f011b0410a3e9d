"""The figures of a progress bar, and when there is one."""

from __future__ import annotations

import sys

import pytest

from sparkps.driver_bridge.progress import ProgressBar, summarize


@pytest.mark.parametrize(
    ("ranks", "want"),
    [
        ([], {}),
        ([{}, {"clock": 4}], {"clock": 4}),
        ([{"epoch": 2, "epochs": 9}, {"epoch": 1, "epochs": 9}, {}], {"epoch": 1, "epochs": 9}),
        ([{"loss": 1.0}, {"loss": 0.5}], {"loss": 0.75}),
        ([{"loss": 1.0, "rows": 3}, {"loss": 0.0, "rows": 1}], {"loss": 0.75}),
        ([{"loss": 1.0, "rows": 0}, {"loss": 0.0, "rows": 0}], {"loss": 0.5}),
        ([{"auc": 0.5, "note": "x"}, {"auc": 0.7}], {"auc": 0.6}),
        ([{"clock": 3, "waited_seconds": 1.0}], {"clock": 3}),
    ],
)
def test_figures_of_all_ranks(ranks, want):
    assert summarize(ranks) == pytest.approx(want)


def test_quiet_where_nobody_sees_it(capsys):
    bar = ProgressBar("fit")
    bar.update([{"epoch": 1, "epochs": 2, "loss": 0.5}])
    bar.close()
    assert capsys.readouterr().err == ""


def test_shown_when_asked_for(capsys):
    bar = ProgressBar("fit", show=True)
    bar.update([{"epoch": 1, "epochs": 2, "loss": 0.5}, {"epoch": 2, "epochs": 2, "loss": 0.25}])
    bar.update([{"epoch": 2, "epochs": 2, "loss": 0.125}, {"epoch": 2, "epochs": 2, "loss": 0.125}])
    bar.close()
    shown = capsys.readouterr().err
    assert "fit:  50%" in shown
    assert "loss=0.375" in shown
    assert "2/2" in shown
    assert "loss=0.125" in shown


def test_shown_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = ProgressBar("fit")
    bar.update([{"clock": 7}])
    bar.close()
    assert "7clock" in capsys.readouterr().err


def test_holds_back_the_console_progress_of_spark():
    class Bar:
        held = 0

        def finishAll(self):
            self.held += 1

    class Option:
        bar = Bar()

        def isDefined(self):
            return True

        def get(self):
            return self.bar

    class Spark:
        class sparkContext:
            class _jsc:
                @staticmethod
                def sc():
                    return type("Java", (), {"progressBar": staticmethod(Option)})

    bar = ProgressBar("fit", show=True, spark=Spark)
    bar.update([{"epoch": 1}])
    bar.close()
    assert Option.bar.held == 1
