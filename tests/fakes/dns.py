"""A name server on loopback, UDP and TCP, for zones written as a dict; it can keep silent, fail, or cut its answers.

    with NameServer({"acme.example": {"TXT": ["v=spf1 -all"]}, "mail.acme.example": {"CNAME": ["mx.else.example"]}})

A name that stands in no zone is NXDOMAIN, unless another name stands below it: then it is empty (RFC 8020).
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Zone = Mapping[str, Mapping[str, Sequence[str]]]


class NameServer:
    """Answers while the block lasts; `asked` holds every question as (name, kind, over TCP).

    Args:
        faults: name, or `*` for all of them → "silent", "servfail", "refused" or "truncated".
    """

    def __init__(self, zone: Zone, faults: Mapping[str, str] | None = None) -> None:
        self.zone = {name.lower(): {kind: list(texts) for kind, texts in sets.items()} for name, sets in zone.items()}
        self.faults = dict(faults or {})
        self.asked: list[tuple[str, str, bool]] = []

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """As `Asker` and STOREPOST_DNS_SERVERS take them."""
        return ((self.host, self.port),)

    def __enter__(self) -> Self:
        self.host = "127.0.0.1"
        for _ in range(50):
            tcp = _TCP((self.host, 0), _TCPHandler)
            try:
                udp = _UDP((self.host, tcp.server_address[1]), _UDPHandler)
            except OSError:  # somebody else has the port for UDP
                tcp.server_close()
                continue
            break
        else:
            raise AssertionError("no port that is free for UDP and TCP")
        self.port = int(tcp.server_address[1])
        self._servers: tuple[Any, ...] = (tcp, udp)
        self._threads = []
        for server in self._servers:
            server.owner = self
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """The answer to a question in wire form; None to stay silent."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype), tcp))
        fault = self.faults.get(name, self.faults.get("*", ""))
        response = dns.message.make_response(query, recursion_available=True)
        if fault == "silent":
            return None
        if fault in ("servfail", "refused"):
            response.set_rcode(dns.rcode.SERVFAIL if fault == "servfail" else dns.rcode.REFUSED)
            return response.to_wire()
        if fault == "truncated" and not tcp:
            response.flags |= dns.flags.TC
            return response.to_wire()
        self._fill(response, question.name, question.rdtype)
        try:
            return response.to_wire(max_size=65535 if tcp else max(query.payload, 512))
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: int) -> None:
        for _ in range(10):  # as many CNAME records in a row as a resolver follows
            text = name.to_text(omit_final_dot=True).lower()
            sets = self.zone.get(text)
            if sets is None:
                below = any(other.endswith(f".{text}") for other in self.zone)
                response.set_rcode(dns.rcode.NOERROR if below else dns.rcode.NXDOMAIN)
                return
            wanted = "CNAME" if "CNAME" in sets else dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind))
            if wanted not in sets:
                return
            response.answer.append(_rrset(name, wanted, sets[wanted]))
            if wanted != "CNAME":
                return
            name = dns.name.from_text(sets["CNAME"][0])


def _rrset(name: dns.name.Name, kind: str, texts: Sequence[str]) -> dns.rrset.RRset:
    rdtype = dns.rdatatype.from_text(kind)
    made = dns.rrset.RRset(name, dns.rdataclass.IN, rdtype)
    for text in texts:
        written = _quoted(text) if kind == "TXT" else f"{text}." if kind in ("CNAME", "MX") else text
        made.add(dns.rdata.from_text(dns.rdataclass.IN, rdtype, written), ttl=60)
    return made


def _quoted(text: str) -> str:
    """A TXT record in master file form: strings of at most 255 bytes; bytes beyond ASCII by their numbers."""
    raw = text.encode("utf-8")
    parts = [raw[start : start + 255] for start in range(0, len(raw), 255)] or [b""]
    return " ".join('"' + "".join(f"\\{byte:03d}" for byte in part) + '"' for part in parts)


class _UDP(socketserver.ThreadingUDPServer):
    daemon_threads = True
    owner: NameServer


class _TCP(socketserver.ThreadingTCPServer):
    daemon_threads = True
    owner: NameServer


class _UDPHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, sock = self.request
        answer = self.server.owner.answer(wire, tcp=False)  # type: ignore[attr-defined]
        if answer is not None:
            sock.sendto(answer, self.client_address)


class _TCPHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        sock: socket.socket = self.request
        sock.settimeout(5)
        with sock.makefile("rb") as file:
            head = file.read(2)
            if len(head) < 2:
                return
            answer = self.server.owner.answer(file.read(struct.unpack("!H", head)[0]), tcp=True)  # type: ignore[attr-defined]
        if answer is not None:
            sock.sendall(struct.pack("!H", len(answer)) + answer)
