"""How fast mail may leave: slots, permits, recipients, pauses. All of it in the database, by the database's clock.

A lane is what a provider counts for. With Advanced SMTP it is the connection, which stores may share; with SMTP the
store. Nothing is remembered in a process, so any number of processes and machines keep a limit together.

limits    what a lane may do, and the expressions that its statements share
slots     one connection to the server at a time each
permits   one message of the minute each; recipients of the day
trouble   what a server that fails, or says "slow down", does to a lane
state     how a lane stands: for the engine, and for people
mended    a failure that a person mended
leftovers what nobody needs any more

Rate: a provider that allows 30 messages a minute looks back a minute from each message. So there are 30 permits, and
one is taken again when a minute and a little have passed since it was taken: 97 % of the limit and more, no reply of
"too fast". Source: performance.md 3; security.md 71.
"""

from mail.pace.leftovers import tidy
from mail.pace.limits import MARGIN, WINDOW, Limits, limits_of, low_priority_share, stored_limits
from mail.pace.permits import add_recipients, take_permit
from mail.pace.slots import Slot, free_slot, renew_slots, take_slot
from mail.pace.state import LaneState, Meter, look, meter
from mail.pace.trouble import note_failure, note_success, note_throttled

__all__ = [
    "MARGIN",
    "WINDOW",
    "LaneState",
    "Limits",
    "Meter",
    "Slot",
    "add_recipients",
    "free_slot",
    "limits_of",
    "look",
    "low_priority_share",
    "meter",
    "note_failure",
    "note_success",
    "note_throttled",
    "renew_slots",
    "stored_limits",
    "take_permit",
    "take_slot",
    "tidy",
]
