"""What processes have logged, at the coordinator: numbered, bounded, and not in the journal."""

from __future__ import annotations

import logging

from sparkps.driver_bridge.coordinator import log_book
from sparkps.driver_bridge.coordinator.log_book import LogBook
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.world import World


def lines(*texts: str) -> list[c.LogLine]:
    return [c.LogLine(logging.INFO, "sparkps", text) for text in texts]


def texts(kept: list[c.KeptLine]) -> list[str]:
    return [each.line.text for each in kept]


def test_records_are_given_once_in_their_order() -> None:
    book = LogBook()
    assert book.after(0) == (0, [], 0)
    book.add("node 0 on a", lines("one", "two"))
    book.add("rank 1 on b", lines("three"))
    last, given, dropped = book.after(0)
    assert (last, texts(given), dropped) == (3, ["one", "two", "three"], 0)
    assert [each.origin for each in given] == ["node 0 on a", "node 0 on a", "rank 1 on b"]
    assert book.after(3) == (3, [], 0)
    assert texts(book.after(2)[1]) == ["three"]


def test_what_a_process_could_not_send_is_said() -> None:
    book = LogBook()
    book.add("node 0 on a", [], 17)
    _, [kept], _ = book.after(0)
    assert kept.line.level == logging.WARNING
    assert kept.line.text.startswith("17 more records were dropped")


def test_a_driver_that_does_not_fetch_loses_the_oldest_and_hears_how_many() -> None:
    book = LogBook()
    for number in range(log_book.MOST_LINES + 7):
        book.add("node 0 on a", lines(str(number)))
    last, given, dropped = book.after(2)
    assert (texts(given)[0], dropped) == ("7", 5)
    assert last == int(texts(given)[-1]) + 1


def test_memory_and_answers_are_bounded() -> None:
    book = LogBook()
    for _ in range(100):
        book.add("x" * 10_000, lines("y" * 100_000))
    assert sum(map(len, texts(list(book._kept)))) <= log_book.MOST_CHARACTERS
    position, answers = 0, []
    while True:
        position, given, _ = book.after(position)
        if not given:
            break
        answers.append(len(given))
        assert sum(map(len, texts(given))) <= log_book.ANSWER_SIZE + 100_000
    assert sum(answers) == log_book.MOST_CHARACTERS // 100_000
    assert position == 100


def test_names_count_as_text_does() -> None:
    book = LogBook()
    for _ in range(log_book.MOST_LINES):
        book.add("x" * 10_000, [c.LogLine(logging.INFO, "y" * 10_000, "")])
    kept = list(book._kept)
    assert sum(len(each.origin) + len(each.line.logger) for each in kept) <= log_book.MOST_CHARACTERS
    assert len(kept) < log_book.MOST_LINES
    _, given, _ = book.after(0)
    assert sum(len(each.origin) + len(each.line.logger) for each in given) <= log_book.ANSWER_SIZE + 600


def test_another_coordinator_gives_all_that_it_has() -> None:
    """The driver knows of more records than this one has ever seen."""
    book = LogBook()
    book.add("node 0 on a", lines("after the restart"))
    assert texts(book.after(4711)[1]) == ["after the restart"]


def test_records_go_through_the_coordinator_and_not_into_its_journal() -> None:
    world = World(num_nodes=1)
    world.join(0)
    world.tier.take_events()
    world.deliver(b"n0", c.LogLines(0, "node 0 on host", lines("said")))
    fetched = world.ask(b"driver", c.FetchLog(0, 0))
    assert (fetched.last, texts(fetched.lines)) == (1, ["said"])
    assert world.tier.take_events() == []
