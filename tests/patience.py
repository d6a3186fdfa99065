"""How long tests wait for those they talk to.

A machine under load may stand still for seconds. Whoever is to answer gets the time for that; only a test that provokes
silence shortens the one wait that silence ends.
"""

from __future__ import annotations

from mail.smtp import Timeouts

PATIENT = Timeouts(connect_s=30, command_s=30, data_s=30, final_s=30, attempt_s=60)
SECOND_LOOK_S = 40.0
# Far more than anything of a moment takes, far less than what a test calls "for ever".
SOON_S = 20.0
