"""What jobs share that train an estimator by its name: values of Params out of the command line's text; and the rows of the demo."""

from __future__ import annotations

import argparse
import csv
import sys

import pytest

from jobs import demo_rows
from jobs.by_name import estimator_of, optimizer_of, parser_of
from sparkps.mllib.classification import LogisticRegression
from sparkps.optim import FTRL, SGD, Adam, AdamW, Momentum, RMSProp


@pytest.mark.parametrize(
    ("text", "optimizer"),
    [
        ("adam:0.001", Adam(0.001)),
        ("Adam(0.001)", Adam(0.001)),
        (" SGD( 1e-2 ) ", SGD(0.01)),
        ("ftrl:0.5, beta=2, l1=1", FTRL(0.5, beta=2.0, l1=1.0)),
        ("AdamW(0.01, weight_decay=0.1, clip_norm=5)", AdamW(0.01, weight_decay=0.1, clip_norm=5.0)),
        ("momentum:0.1,nesterov=true", Momentum(0.1, nesterov=True)),
        ("rmsprop:1", RMSProp(1.0)),
    ],
)
def test_an_optimizer_is_its_name_its_rate_and_numbers_by_name(text, optimizer):
    assert optimizer_of(text) == optimizer


@pytest.mark.parametrize(
    "text",
    [
        "", "adam", "adam()", "adam:", "adam:fast", "adam:-1", "adam:nan", "adam(0.1", "adam:0.1)", "adam(0.1) or 1", "adam:0.1,0.9",
        "adam:0.1,beta3=0.5", "adam:0.1,beta1", "adam:0.1,beta1=x", "consensus:0.1", "print(1)", "Adam(__import__('os'))",
    ],
)  # fmt: skip
def test_any_other_text_is_no_optimizer(text):
    with pytest.raises(ValueError, match=r"must be one of adagrad, adam, adamw, .* as adam:0\.001 or .* Got"):
        optimizer_of(text)


def given(**texts):
    return argparse.Namespace(estimator="LogisticRegression", input="x", **{f"param {name}": text for name, text in texts.items()})


def test_help_tells_the_default_of_each_param_that_has_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["job"])
    told = " ".join(parser_of("doc", {"LogisticRegression": LogisticRegression}, "LogisticRegression").format_help().split())
    assert "number of workers; 0: as many as the cluster runs at once (default: 0)" in told
    assert "(default: true)" in told
    assert "(default: features)" in told
    assert "--estimator {LogisticRegression} (default: LogisticRegression)" in told


def test_params_are_read_as_their_types_are():
    made = estimator_of(
        given(regParam="0.5", maxIter="7", fitIntercept="False", inputCols="a,b", thresholds="0.4,0.6", family=None, crosses="a,b;b,c"),
        {"LogisticRegression": LogisticRegression},
    )
    assert (made.getRegParam(), made.getMaxIter(), made.getFitIntercept(), made.getInputCols()) == (0.5, 7, False, ["a", "b"])
    assert (made.getThresholds(), made.getFamily(), made.getCrosses()) == ([0.4, 0.6], "auto", [["a", "b"], ["b", "c"]])


@pytest.mark.parametrize(
    ("name", "text", "must"),
    [
        ("maxIter", "many", "an integer"), ("maxIter", "1.5", "an integer"), ("regParam", "abc", "a number"),
        ("fitIntercept", "yes", "true or false"), ("thresholds", "0.4,,", "numbers, as 0.3,0.7"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_read_is_told_with_its_option(name, text, must):
    with pytest.raises(SystemExit, match=f"--{name} must be: .* Got '{text}': it must be {must}$"):
        estimator_of(given(**{name: text}), {"LogisticRegression": LogisticRegression})


def rows_of_demo(data, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["demo_rows", str(data / "out"), "--data", str(data)])
    demo_rows.main()
    return [list(csv.reader((data / "out" / f"{part}.csv").read_text().splitlines())) for part in ("train", "test")]


def test_the_demo_has_the_fields_of_the_adult_data(tmp_path, monkeypatch, capsys):
    for part in ("train", "test"):
        (tmp_path / f"a9a.{part}.libsvm").write_text("+1 5:1 6:1 122:1\n-1 2:1 83:1\n")
    train, test = rows_of_demo(tmp_path, monkeypatch)
    assert train == test
    assert train[0] == ["label", *demo_rows.A9A]
    assert train[1] == ["1.0", "5", "6", *[""] * 11, "122"]
    assert train[2] == ["0.0", "2", *[""] * 12, "83"]
    assert "learns from 2 rows" in capsys.readouterr().out


def test_the_demo_has_ratings_where_there_are_no_other_data(tmp_path, monkeypatch, capsys):
    train, test = rows_of_demo(tmp_path, monkeypatch)
    assert train[0] == test[0] == ["label", "user", "film"]
    assert (len(train), len(test)) == (1201, 302)
    assert {row[0] for row in train[1:]} == {"0.0", "1.0"}
    assert "ratings of films" in capsys.readouterr().out
