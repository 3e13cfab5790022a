"""Memory that is freed and wanted again at once stays with the process while a network runs on the CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt's parameter numbers, from malloc.h of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1
_DEFAULT_TRIM_BYTES = 128 * 1024
_DEFAULT_MMAP_MAX = 65536


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep freed memory in the process while the block runs, then give it back.

    The GNU C library maps each large block afresh and unmaps it when freed, so every activation of every training
    step is paged in and zeroed again, which can cost as much time as the arithmetic. Within the block it keeps
    them. The setting is the whole process's; elsewhere than on Linux with that library nothing is done.

    Yields:
        Whether freed memory is kept.
    """
    library = _gnu_c_library()
    if library is None:
        yield False
        return
    kept = library.mallopt(_M_MMAP_MAX, 0) == 1 and library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT) == 1
    try:
        yield kept
    finally:
        library.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
        library.mallopt(_M_TRIM_THRESHOLD, _DEFAULT_TRIM_BYTES)
        library.malloc_trim(0)


def _gnu_c_library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    has_all = all(hasattr(library, name) for name in ("mallopt", "malloc_trim", "gnu_get_libc_version"))
    return library if has_all else None
