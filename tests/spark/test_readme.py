"""The README's Python runs as it stands."""

from __future__ import annotations

import pathlib
import re
import textwrap

import pyspark
import pytest

from sparkps import PSContext

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = pathlib.Path(pyspark.__file__).parent / "data" / "mllib" / "sample_libsvm_data.txt"


def examples() -> list[str]:
    """The indented blocks that import something, in order; those that need torch are run in tests/deep."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if "import " in block and "mllib.deep" not in block]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2], ids=["estimator", "tier", "simulation"])
def test_readme_examples_run(number, spark, tmp_path, capsys):
    text = examples()[number]
    text = text.replace('"train.libsvm"', repr(SAMPLE.as_uri())).replace('"out/model"', repr(str(tmp_path / "model")))
    try:
        exec(compile(text, "README.md", "exec"), {"__name__": "__main__", "spark": spark})
    finally:
        active = PSContext.active()
        if active is not None:
            active.stop()
    assert capsys.readouterr().out
    assert (tmp_path / "model").is_dir() == (number == 0)


def test_readme_has_three_examples():
    assert len(examples()) == 3
