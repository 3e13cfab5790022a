import ctypes
import sys
from threading import Thread

import numpy as np
import pytest

from resight import memory
from resight.memory import freed_memory_kept

TRIM, MMAPS = -1, -4  # mallopt's numbers


class Library:
    """Stands for the C library and keeps what it was told."""

    def __init__(self) -> None:
        self.settings: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, parameter: int, value: int) -> int:
        self.settings[parameter] = value
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trimmed += 1
        return 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(memory, "_gnu_c_library", lambda: library)
    return library


def test_memory_is_kept_until_the_outermost_block_ends(library: Library) -> None:
    with freed_memory_kept() as kept:
        assert kept
        assert library.settings == {MMAPS: 0, TRIM: 2**31 - 1}
        with freed_memory_kept() as inner:
            assert inner
        assert library.settings == {MMAPS: 0, TRIM: 2**31 - 1}
        assert library.trimmed == 0
    assert library.settings == {MMAPS: 65536, TRIM: 128 * 1024}
    assert library.trimmed == 1


def test_a_block_that_fails_and_one_in_another_thread_are_counted_too(library: Library) -> None:
    def fail() -> None:
        with pytest.raises(ValueError, match="broken"), freed_memory_kept():
            raise ValueError("broken")

    with freed_memory_kept():
        thread = Thread(target=fail)
        thread.start()
        thread.join()
        assert library.trimmed == 0
    assert library.trimmed == 1


def test_the_real_library_is_told_where_it_is_the_gnu_one() -> None:
    is_gnu = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    with freed_memory_kept() as kept:
        assert kept == is_gnu
        assert np.ones(2**20, np.uint8).sum() == 2**20
