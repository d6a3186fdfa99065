"""STUB"""

from datetime import timedelta


def purge(
    *, content_after: timedelta = timedelta(days=7), all_after: timedelta = timedelta(days=90), at_most: int = 500
) -> int:
    return 0
