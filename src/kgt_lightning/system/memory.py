"""Memory that a process keeps for its next tensors, instead of giving it back at each step."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt, see mallopt(3)."""
_KEPT_BYTES = 2**31 - 1
"""That may lie free at the end of the heap: all that a training step needs. It is what mallopt can take."""
_WHOLE_BYTES = 128 * 2**20
"""Larger blocks, such as whole photographs, come from the kernel and go back to it one by one."""


def keep_freed_memory() -> bool:
    """Keep memory that is freed, and say whether this was done: under Linux with glibc, if the user has set nothing.

    As shipped, glibc gives back blocks above 32 MB, and more than 64 MB at the end of the heap; a training step then
    asks for them anew, page by page. The environment variables ``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``
    and ``GLIBC_TUNABLES`` are left their say.
    """
    told = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys()
    if sys.platform != "linux" or told:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another library of C
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _WHOLE_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
