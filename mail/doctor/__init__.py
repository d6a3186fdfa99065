"""Test Email Settings: a run through the same code as delivery, watched step by step, and put into words.

runs          what pages use: start, find, list, cancel
rows          the row of a run, changed only by whoever holds its lease
draft         what was on the screen, sealed for the run
plan          everything a run needs, read before the network is touched
examination   the run itself, in a thread of its own
steps         the ten steps as records, and the watcher that fills them
facts         what each step learned, in words
probes        after a failure: how else the same host speaks
deductions    what a single reply cannot say
report        a run as people read it; `markdown` for support, `fields` to mend
"""

from mail.doctor.examination import run
from mail.doctor.runs import (
    KEPT_PER_STORE,
    PER_MINUTE,
    Found,
    Listed,
    Started,
    TooManyTests,
    cancel,
    find,
    history,
    last_runs,
    start_after_consent,
    start_run,
    sweep,
)

__all__ = [
    "KEPT_PER_STORE",
    "PER_MINUTE",
    "Found",
    "Listed",
    "Started",
    "TooManyTests",
    "cancel",
    "find",
    "history",
    "last_runs",
    "run",
    "start_after_consent",
    "start_run",
    "sweep",
]
