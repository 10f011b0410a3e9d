"""Processes of the tier notice the end of their driver."""

from __future__ import annotations

import os
import threading

from sparkps.lifeline import watch_stdin


def test_the_end_of_standard_input_is_noticed_and_nothing_before() -> None:
    reader, writer = os.pipe()
    gone = threading.Event()
    watch_stdin(gone.set, reader)
    os.write(writer, b"still here")
    assert not gone.wait(0.1)
    os.close(writer)
    assert gone.wait(10)
    os.close(reader)


def test_standard_input_that_cannot_be_read_has_ended() -> None:
    reader, writer = os.pipe()
    gone = threading.Event()
    watch_stdin(gone.set, writer)
    assert gone.wait(10)
    os.close(reader)
    os.close(writer)
