"""Which error the driver raises where its thread and the ranks failed together."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.groups.causes import raise_first_cause
from sparkps.errors import InputFailed, NodeUnreachable, SparkPSError, WorkerFailed

EXPLAINED = InputFailed("The rows must be computable. They are not: ZeroDivisionError", group="g")


@pytest.mark.parametrize("echo", [InputFailed("Spark gave up before", group="g"), NodeUnreachable("the group has failed")])
@pytest.mark.parametrize("cause", [EXPLAINED, WorkerFailed("Rank 1 failed", rank=1)])
def test_an_echo_gives_way_to_the_cause(echo: SparkPSError, cause: SparkPSError) -> None:
    with pytest.raises(type(cause)) as caught:
        raise_first_cause(echo, cause)
    assert caught.value is cause


@pytest.mark.parametrize("error", [ValueError("of the user's"), KeyboardInterrupt(), WorkerFailed("Rank 0 failed"), EXPLAINED])
def test_what_is_no_echo_stays(error: BaseException) -> None:
    before = error.__cause__
    with pytest.raises(type(error)) as caught:
        try:
            raise error
        except BaseException as raised:
            raise_first_cause(raised, EXPLAINED)
            raise_first_cause(raised, None)
            raise
    assert caught.value is error
    assert error.__cause__ is before, "nothing else is blamed"
