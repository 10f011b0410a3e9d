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
    """The indented blocks that import something, in order."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if "import " in block]


@pytest.mark.slow
def test_readme_examples_run(spark, tmp_path, capsys):
    names: dict[str, object] = {}
    found = examples()
    assert len(found) == 2
    try:
        for text in found:
            text = text.replace('"train.libsvm"', repr(SAMPLE.as_uri())).replace('"out/model"', repr(str(tmp_path / "model")))
            exec(compile(text, "README.md", "exec"), names)
    finally:
        active = PSContext.active()
        if active is not None:
            active.stop()
    printed = capsys.readouterr().out
    assert "probability" in printed
    assert (tmp_path / "model").is_dir()
