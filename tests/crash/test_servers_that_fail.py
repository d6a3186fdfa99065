"""SMTP servers that hang, drip or hang up at each stage; every message comes to its end when they recover.

Workers wait for servers as long as ever, only with shorter limits (`impatient.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from models.outbox import MessageStatus
from tests.crash.figures import Figures
from tests.crash.harness import Site
from tests.crash.impatient import ATTEMPT_S
from tests.crash.sink import STAGES
from tests.crash.sinks import Sinks, deed
from tests.fakes.certs import CA, ServerCert

FAULTS = {"hangs": deed("hold"), "drips": deed("drip", seconds=0.7), "hangs up": deed("cut")}
# Where there is no answer, none can drip.
SILENT = ("connect", "handshake", "content", "answered")
PLACES = [(stage, fault) for stage in STAGES for fault in FAULTS if not (fault == "drips" and stage in SILENT)]
# From the first byte that commits on, nobody knows whether the server took the message.
COMMITTED = ("content", "dot")


def test_every_stage_may_hang_drip_or_hang_up(
    database: str, ca: CA, cert: ServerCert, open_site: Callable[..., Site], figures: Figures
) -> None:
    with Sinks(len(PLACES), cert=cert) as sinks:
        site = open_site(
            database,
            sinks=sinks,
            threads=len(PLACES),
            more={"STOREPOST_CA_FILE": ca.cert_file},
            program="tests.crash.impatient",
        )
        uids: dict[tuple[str, str], str] = {}
        for (stage, fault), port in zip(PLACES, sinks.ports, strict=True):
            encrypted = stage in ("starttls", "handshake")
            shop = site.add_store(f"Store {stage} {fault}", port=port, use_ssl=encrypted)
            sinks.offer("plain", port=port, starttls=encrypted)
            sinks.script(port, **{stage: FAULTS[fault]})
            (uids[stage, fault],) = site.hand_in(shop)
        worker = site.start_worker()
        site.wait(worker.has_started, "the worker started", 20)
        waiting = (MessageStatus.DEFERRED, MessageStatus.UNCERTAIN, MessageStatus.SENT)
        site.wait(lambda: set(site.states()) <= set(waiting), "every attempt has ended", 8 * ATTEMPT_S)
        fates = {fate.uid: fate for fate in site.fates()}
        found = {place: fates[uid].status for place, uid in uids.items()}
        assert found == {place: _expected(*place) for place in PLACES}
        assert all(fate.code for fate in fates.values() if fate.status is not MessageStatus.SENT), "a reason for each"
        sinks.release()
        site.let_time_pass(timedelta(hours=2))
        healed_s = site.wait_until_through()
        committed = sum(stage in COMMITTED for stage, _ in PLACES)
        doubles = site.judge(uncertain=committed).doubles
        figures.add_fault(
            f"{len(PLACES)} servers, each hanging, dripping or hanging up at another stage",
            f"0 lost, {doubles} doubles (after the final dot), through {healed_s:.1f} s after they recovered",
        )


def _expected(stage: str, fault: str) -> MessageStatus:
    if stage == "answered":
        return MessageStatus.SENT
    return MessageStatus.UNCERTAIN if stage in COMMITTED else MessageStatus.DEFERRED
