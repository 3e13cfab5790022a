import ctypes
import resource
import sys

import numpy as np
import pytest

from resight.memory import freed_memory_kept

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="only the GNU C library on Linux is told to keep memory",
)


def faults_of_fresh_megabytes() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_block_inside_another_leaves_memory_kept_until_the_outer_one_ends() -> None:
    with freed_memory_kept() as kept:
        assert kept
        with freed_memory_kept() as inner:
            assert inner
        np.ones(2**20, np.uint8)
        assert faults_of_fresh_megabytes() < 2000  # paged in anew each time, they would be 12,800
    assert faults_of_fresh_megabytes() > 2000
