"""Questions to the name server for the domain check: few, short, and with an end.

One `Asker` serves one check. It asks each question once, keeps count, and stops asking at its deadline or its limit,
so that no zone, however it is built, can hold the person who waits. It tells apart what matters to a reader: the name
does not exist, it exists without such a record, its servers answer with an error, and nobody answers at all.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver

DEADLINE_S = 10.0
# One question; the others of the check must still have their turn when it is not answered.
PATIENCE_S = 3.0
# A domain with everything wrong takes about 50.
QUERIES_MAX = 80
_AT_ONCE = 8
_RECORDS_MAX = 40
_TEXT_MAX = 4096

Question = tuple[str, str]


class Status(enum.StrEnum):
    """What became of a question."""

    ANSWER = "answer"
    EMPTY = "empty"  # the name exists, such a record does not (RFC 2308 2.2), an empty non-terminal included
    MISSING = "missing"  # NXDOMAIN: neither the name nor anything below it exists (RFC 8020)
    FAILED = "failed"  # SERVFAIL: the servers of the zone are broken, or its signatures are
    SILENT = "silent"  # no answer: our own network or name server
    SKIPPED = "skipped"  # not asked: time or questions were used up
    NO_NAME = "no_name"  # cannot be asked: longer than a name may be


@dataclass(frozen=True)
class Reply:
    """An answer, cut to what a check can need.

    Attributes:
        texts: TXT records, the strings of each joined (RFC 7208 3.3); control and foreign bytes replaced.
        hosts: names of MX records, the first choice first, without the dot at the end.
        addresses: of A and AAAA records.
        chain: the names that CNAME records led to, in their order.
    """

    status: Status
    texts: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()

    @property
    def is_void(self) -> bool:
        """Whether it counts as a void lookup (RFC 7208 4.6.4)."""
        return self.status in (Status.EMPTY, Status.MISSING)

    @property
    def is_known(self) -> bool:
        """Whether the zone itself has spoken: there is such a record, or there is none."""
        return self.status is Status.ANSWER or self.is_void


class Asker:
    """Asks the name servers, each question once.

    Args:
        servers: (address, port) of each name server; without any, those of this machine.
        deadline_s: seconds from now after which nothing is asked any more.
    """

    def __init__(
        self,
        servers: Sequence[tuple[str, int]] = (),
        *,
        deadline_s: float = DEADLINE_S,
        patience_s: float = PATIENCE_S,
        queries_max: int = QUERIES_MAX,
    ) -> None:
        self._deadline = time.monotonic() + deadline_s
        self._patience_s = patience_s
        self._left = queries_max
        self._known: dict[Question, Reply] = {}
        self._resolver = _resolver(servers)

    @property
    def asked(self) -> int:
        """How many questions were put."""
        return len(self._known)

    @property
    def is_over(self) -> bool:
        """Whether time or questions are used up."""
        return self._left <= 0 or time.monotonic() >= self._deadline

    def ask(self, name: str, kind: str = "TXT") -> Reply:
        """Return the answer for records of this kind (TXT, A, AAAA, MX) at a name; never raises."""
        question = (name.lower().rstrip("."), kind)
        if question not in self._known:
            if self.is_over:
                return Reply(Status.SKIPPED)
            self._left -= 1
            self._known[question] = self._put(question)
        return self._known[question]

    def ask_ahead(self, questions: Iterable[Question]) -> None:
        """Ask several questions at the same time, so that `ask` has their answers at hand."""
        wanted = [(name.lower().rstrip("."), kind) for name, kind in questions]
        new = [question for question in dict.fromkeys(wanted) if question not in self._known]
        new = new[: max(self._left, 0)]
        if not new or self.is_over:
            return
        self._left -= len(new)
        with ThreadPoolExecutor(min(len(new), _AT_ONCE), thread_name_prefix="domain-check") as pool:
            self._known.update(zip(new, pool.map(self._put, new), strict=True))

    def _put(self, question: Question) -> Reply:
        name, kind = question
        lifetime = min(self._patience_s, self._deadline - time.monotonic())
        if self._resolver is None:
            return Reply(Status.SILENT)
        if lifetime <= 0:
            return Reply(Status.SKIPPED)
        try:
            asked = dns.name.from_text(f"{name}.")
            answer = self._resolver.resolve(asked, kind, lifetime=lifetime, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN as error:
            response = error.kwargs.get("responses", {}).get(asked)
            return Reply(Status.MISSING, chain=_chain(response, asked) if response else ())
        except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout) as error:
            return Reply(Status.FAILED if _has_servfail(error) else Status.SILENT)
        except dns.resolver.YXDOMAIN:
            return Reply(Status.FAILED)
        except (dns.exception.DNSException, UnicodeError):
            return Reply(Status.NO_NAME)
        except OSError:
            return Reply(Status.SILENT)
        chain = _chain(answer.response, asked)
        if answer.rrset is None:
            return Reply(Status.EMPTY, chain=chain)
        return _read(list(answer.rrset)[:_RECORDS_MAX], kind, chain)


def _resolver(servers: Sequence[tuple[str, int]]) -> dns.resolver.Resolver | None:
    try:
        resolver = dns.resolver.Resolver(configure=not servers)
    except (dns.resolver.NoResolverConfiguration, OSError):
        return None  # a machine without any name server: the same as one that nobody answers
    if servers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in servers]
    # Larger answers get lost on the way; the resolver then asks again over TCP (DNS Flag Day 2020).
    resolver.use_edns(0, 0, 1232)
    resolver.timeout = 1.5
    return resolver


def _has_servfail(error: dns.exception.DNSException) -> bool:
    # Each entry is (server, over TCP, port, what went wrong, its response or None).
    failures = error.kwargs.get("errors", ())
    return any(entry[4] is not None and entry[4].rcode() == dns.rcode.SERVFAIL for entry in failures)


def _chain(response: dns.message.Message, asked: dns.name.Name) -> tuple[str, ...]:
    leads = {
        rrset.name: rrset[0].target for rrset in response.answer if rrset.rdtype == dns.rdatatype.CNAME and len(rrset)
    }
    found: list[str] = []
    name = asked
    while name in leads and len(found) < 8:
        name = leads[name]
        found.append(_text(name))
    return tuple(found)


def _read(records: list[Any], kind: str, chain: tuple[str, ...]) -> Reply:
    match kind:
        case "TXT":
            texts = tuple(_clean(b"".join(record.strings)) for record in records)
            return Reply(Status.ANSWER, texts=texts, chain=chain)
        case "MX":
            ordered = sorted(records, key=lambda record: (record.preference, record.exchange))
            return Reply(Status.ANSWER, hosts=tuple(_text(record.exchange) for record in ordered), chain=chain)
        case _:
            return Reply(Status.ANSWER, addresses=tuple(str(record.address) for record in records), chain=chain)


def _clean(text: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "\ufffd" for byte in text[:_TEXT_MAX])


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
