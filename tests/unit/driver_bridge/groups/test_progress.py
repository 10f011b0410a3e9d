"""The figures of a progress bar, and when there is one."""

from __future__ import annotations

import sys

import pytest

from sparkps.driver_bridge.groups.progress import ProgressBar, summarize


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
    assert "fit: epoch 1/2, loss=0.375 [" in shown
    assert "fit: epoch 2/2, loss=0.125 [" in shown
    assert "epoch/s]" in shown
    assert "clock" not in shown


def test_shown_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = ProgressBar("run-3f2a1b")
    bar.update([{"clock": 7, "auc": 0.5}])
    bar.close()
    assert "run-3f2a1b: clock 7, auc=0.5 [" in capsys.readouterr().err


def test_epochs_follow_clocks_as_soon_as_they_are_reported(capsys):
    """A fit has many clocks in an epoch: those that were shown first must not count as epochs."""
    bar = ProgressBar("fit", show=True)
    seen = []
    first, then = {"clock": 41, "epoch": 0, "epochs": 9}, {"clock": 90, "epoch": 1, "epochs": 9}
    for figures in ({}, {"clock": 40}, first, then, {"clock": 95}):
        bar.update([figures])
        seen.append(capsys.readouterr().err.rpartition("fit: ")[2].partition(" [")[0])
    bar.close()
    assert seen == ["starting", "clock 40", "epoch 0/9", "epoch 1/9", "epoch 1/9"]


@pytest.mark.parametrize(("well", "last"), [(True, "fit: epoch 3/3"), (False, "fit: epoch 3/9")])
def test_a_fit_that_ends_early_and_well_has_a_whole_bar(capsys, well, last):
    bar = ProgressBar("fit", show=True)
    bar.update([{"epoch": 3, "epochs": 9}])
    bar.close(well=well)
    assert capsys.readouterr().err.rpartition("\r")[2].startswith(last)


def test_epochs_without_an_end(capsys):
    bar = ProgressBar("fit", show=True)
    bar.update([{"epoch": 3, "loss": 0.25}])
    bar.close()
    assert "fit: epoch 3, loss=0.25 [" in capsys.readouterr().err


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


def test_figures_that_are_not_finite_are_left_out_and_break_nothing() -> None:
    bar = ProgressBar("strange", show=True)
    bar.update([{"epoch": float("nan"), "epochs": float("inf"), "clock": 3, "loss": float("nan")}])
    bar.close()
    assert summarize([{"epoch": float("nan"), "epochs": float("inf")}]) == {}
