from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from resight.parallel import parallel_map


@pytest.mark.parametrize("workers", [None, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_every_result_comes_once_and_in_order(workers: int | None, count: int) -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.002 if number % 5 == 0 else 0)
        return number * number

    found = list(parallel_map(slow_first, iter(range(count)), label="squares", total=count, workers=workers))
    assert found == [number * number for number in range(count)]


def test_items_are_taken_as_they_are_needed() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = parallel_map(lambda number: number, endless(), label="endless", workers=2)
    assert [next(results) for _ in range(10)] == list(range(1, 11))
    assert taken <= 10 + 2 * 4
    results.close()  # type: ignore[attr-defined]


def test_an_error_reaches_the_caller_in_its_place() -> None:
    def fails_at_five(number: int) -> int:
        if number == 5:
            raise LookupError("five")
        return number

    results = parallel_map(fails_at_five, range(100), label="numbers", workers=2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(LookupError, match="five"):
        next(results)


def test_several_items_are_worked_on_at_once() -> None:
    both = threading.Barrier(2, timeout=5)
    assert list(parallel_map(lambda _: both.wait() >= 0, range(2), label="pair", workers=2)) == [True, True]


def test_nothing_is_written_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    list(parallel_map(str, range(5), label="silent"))
    assert capsys.readouterr() == ("", "")
