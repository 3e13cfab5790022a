"""Memory that is freed and wanted again at once stays with the process while pictures or networks are worked on."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt's parameter numbers, from malloc.h of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1
_DEFAULT_TRIM_BYTES = 128 * 1024
_DEFAULT_MMAP_MAX = 65536

_lock = threading.Lock()
_inside = 0  # blocks that are being run, in any thread


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep freed memory in the process while the block runs, then give it back.

    The GNU C library maps each large block afresh and unmaps it when freed, so every activation of every training
    step, and every picture that is decoded, is paged in and zeroed again. That can cost as much time as the arithmetic,
    and threads wait for each other meanwhile. Within the block it keeps them. The setting is the whole process's:
    blocks in several threads or inside one another share it until the last one ends. Elsewhere than on Linux with that
    library nothing is done.

    Yields:
        Whether freed memory is kept.
    """
    library = _gnu_c_library()
    if library is None:
        yield False
        return
    global _inside
    with _lock:
        _inside += 1
        kept = library.mallopt(_M_MMAP_MAX, 0) == 1 and library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT) == 1
    try:
        yield kept
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                library.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
                library.mallopt(_M_TRIM_THRESHOLD, _DEFAULT_TRIM_BYTES)
                library.malloc_trim(0)


def _gnu_c_library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    has_all = all(hasattr(library, name) for name in ("mallopt", "malloc_trim", "gnu_get_libc_version"))
    return library if has_all else None
