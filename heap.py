"""What glibc's allocator is told about this program: many threads that hold the interpreter in turn."""

import ctypes

# Of malloc.h
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_small() -> None:
    """Let a process with many threads give memory back; called before its threads start.

    Once a large piece was freed, glibc serves the next ones from each thread's own heap, which does not shrink: three
    attachments of 25 MB in turn took 4.5 times that, and take 1.5 times with a limit that does not move. And a heap
    for each of many threads holds much that only one of them can use; no two of ours ask for memory at the same time.
    Other C libraries have no such function, and no need of it.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)
        mallopt(_M_ARENA_MAX, 2)
