"""What a change may touch (CONTRIBUTING): a message or an optimizer of one's own needs no line in any list."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

from sparkps import optim

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: A message, its handler and its sender, beside the package: in a process of its own, for what is defined stays registered.
A_MESSAGE = """
import numpy as np

from sparkps.wire.messages.data import Done, Request


class Largest(Request, frozen=True, tag=60):
    '''Asks which key of a bucket is the largest. Answer: `Done` with it.'''

    table: int
    bucket: int


from sparkps.ps_nodes.handlers.table import handles


@handles(Largest)
def largest(state, work):
    message = work.message
    with state.tables.use([message.table]) as use:
        work.done([use.tables[0].keys_of(message.bucket).max(keepdims=True)], record=False)


from sparkps.client.session import Session


def ask(session, table, bucket):
    answers = []
    session.broadcast("largest key", Largest(table, bucket), lambda _, arrays: answers.append(int(arrays[0][0]))).result()
    return answers


from sparkps.wire.hashing import buckets_of
from tests.unit.ps_nodes.lone_node import Client, LoneNode

node = LoneNode()
node.table()
keys = np.arange(2000)
keys = keys[buckets_of(keys) == 7]
client = Client(node, 5)
client.ask(*client.add(keys.tolist()))


class Network:
    def now(self): return 0.0
    def connect(self, endpoint): return Channel()
    def wait(self, channels, seconds, patience=0.0): node.pool.run()


class Channel:
    def send(self, frames): node.service.receive(b"channel", [memoryview(frame).tobytes() for frame in frames])
    def receive(self):
        answers = node.answers.get(b"channel")
        return [memoryview(frame).tobytes() for frame in encode(*answers.pop(0))] if answers else None
    def close(self, linger): pass


class Control:
    def request(self, message, timeout=None):
        return c.Attached(0, "tier", 1, [[0]] * 256, [c.NodeInfo(0, "here", "host", 1)], ClientSettings())


from sparkps.config import ClientSettings
from sparkps.wire.codec import encode
from sparkps.wire.messages import control as c

session = Session(c.TierAddress("tier", "nowhere"), Control(), Network())
assert ask(session, 1, 7) == [keys.max()], ask(session, 1, 7)
session.close()
print("answered")
"""


def test_a_message_is_its_struct_its_handler_and_its_sender():
    """With its test and a line in the changelog: five files."""
    command = [sys.executable, "-c", A_MESSAGE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=ROOT, check=False)
    assert done.stdout.strip() == "answered", done.stderr


@pytest.mark.parametrize("optimizer", ["RMSProp", "AdamW"])
def test_an_optimizer_is_named_in_few_files(optimizer):
    """Its values, its update and its state, and its twin for copies that workers have; its row in the tests comes on top."""
    assert issubclass(getattr(optim, optimizer), optim.Optimizer)
    spellings = "|".join((optimizer, optimizer.lower(), optimizer.upper()))  # a solver may be called adamW, as in pyspark.ml
    name = re.compile(rf"\b_?({spellings})\b")
    files = [path for path in (ROOT / "sparkps").rglob("*.py") if name.search(_code(path))]
    assert {path.name for path in files} <= {"optim.py", "updates.py", "optimizers.py", "flat_optimizer.py"}


def _code(path: pathlib.Path) -> str:
    """Without comments and docstrings, which may name what they like."""
    return re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(), flags=re.DOTALL)
