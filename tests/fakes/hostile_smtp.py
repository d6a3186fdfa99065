"""SMTP servers that go wrong on purpose, each in one way: from no greeting at all to a cut after the last byte.

    tls = make_contexts(tmp_path)                  # certificates of every kind, made once
    with SERVERS["banner_421"].on(tls) as server:  # a `RawServer`: .host, .port, .dialogue
        ...

A server's name is its key, its `story` says what it does. All of them offer only the extensions they handle: neither
PIPELINING nor CHUNKING, except where the fault is about these. What they say in a language that is not SMTP ends in
`PRIVATE`, words that a page must never repeat.

Servers up to the sign-in are in this file, those that fail a message in `hostile_transfer.py`.
"""

from __future__ import annotations

import contextlib
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.certs import ServerCert, make_ca, make_server_cert
from tests.fakes.rawserver import Peer, RawServer

PRIVATE = "intranet-wiki-17"
EXTENSIONS = ("SIZE 36700160", "8BITMIME", "ENHANCEDSTATUSCODES")
MECHANISMS = "AUTH XOAUTH2 OAUTHBEARER PLAIN LOGIN"
DRIP_S = 0.05
# A client that begins with TLS, or comes back to see whether that is what the port wants (RFC 8446 5.1: handshake).
_TLS_HELLO = "\x16"
# A script that says things without end stops here all the same, should the client never leave.
_ENDLESS = 2_000


@dataclass(frozen=True)
class Contexts:
    """Server sides of TLS, by what is wrong with them; `ca_file` trusts all but the self-signed and the stranger.

    `cert` and `unknown_cert` are the files of the good one and of the stranger, for servers of other kinds.
    """

    ca_file: str
    cert: ServerCert
    unknown_cert: ServerCert
    good: ssl.SSLContext
    expired: ssl.SSLContext
    not_yet_valid: ssl.SSLContext
    other_name: ssl.SSLContext
    self_signed: ssl.SSLContext
    stranger: ssl.SSLContext
    old: ssl.SSLContext


def make_contexts(directory: Path) -> Contexts:
    """Return contexts with fresh certificates, whose files go to `directory`."""
    ca, unknown = make_ca(directory), make_ca(directory, "Authority that nobody knows")
    good, stranger = make_server_cert(ca), make_server_cert(unknown)
    with warnings.catch_warnings():
        # Python warns whoever asks for a version this old, which is what the doctor is to notice.
        warnings.simplefilter("ignore", DeprecationWarning)
        old = good.server_context(maximum=ssl.TLSVersion.TLSv1_1)
        old.minimum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    return Contexts(
        ca_file=ca.cert_file,
        cert=good,
        unknown_cert=stranger,
        good=good.server_context(),
        expired=make_server_cert(ca, expired=True).server_context(),
        not_yet_valid=make_server_cert(ca, not_yet_valid=True).server_context(),
        other_name=make_server_cert(ca, ["mail.elsewhere.example"], []).server_context(),
        self_signed=make_server_cert(ca, self_signed=True).server_context(),
        stranger=stranger.server_context(),
        old=old,
    )


Script = Callable[[Peer, Contexts], None]


@dataclass(frozen=True)
class HostileServer:
    """One way to go wrong."""

    name: str
    story: str
    script: Script

    @contextlib.contextmanager
    def on(self, tls: Contexts) -> Iterator[RawServer]:
        """Run it on a free port of loopback; a claim of the script that fails is raised at the end."""
        with RawServer(lambda peer: self.script(peer, tls)) as server:
            yield server


SERVERS: dict[str, HostileServer] = {}


def hostile(script: Script) -> Script:
    """Add a script to the library under its name, with its docstring as story."""
    add(script.__name__, script.__doc__ or "", script)
    return script


def add(name: str, story: str, script: Script) -> None:
    """Add a script to the library."""
    assert name not in SERVERS, name
    assert story.strip(), name
    SERVERS[name] = HostileServer(name, story.strip(), script)


# What servers have in common -----------------------------------------------------------------------------------------


def greet(peer: Peer, *extensions: str) -> None:
    """Say hello as a mail server does, and offer these extensions."""
    peer.say("220 mail.test ESMTP ready")
    peer.ehlo(*EXTENSIONS, *extensions)


def encrypt(peer: Peer, context: ssl.SSLContext) -> None:
    """Greet, offer STARTTLS and shake hands."""
    greet(peer, "STARTTLS")
    assert peer.hear() == "STARTTLS"
    peer.say("220 2.0.0 Ready to start TLS")
    peer.start_tls(context)


def ask_for_credential(peer: Peer, tls: Contexts, *extensions: str) -> str:
    """Go as far as the credential, and return it in the form in which it came."""
    encrypt(peer, tls.good)
    peer.ehlo(*EXTENSIONS, MECHANISMS, *extensions)
    assert peer.hear().startswith("AUTH ")
    peer.say("334 ")
    return peer.hear()


def see_out(peer: Peer) -> None:
    """Answer what a client says before it leaves; a message must not be among it."""
    while (line := peer.hear()) != "QUIT":
        assert line == "RSET", f"the client went on: {line}"
        peer.say("250 2.0.0 Reset")
    peer.say("221 2.0.0 Bye")


def expect_nothing_more(peer: Peer) -> None:
    """The client must leave without another word, except goodbye."""
    line = peer.hear()
    assert line == "QUIT", f"the client went on: {line}"


def _ignore(peer: Peer) -> None:
    while peer.sock.recv(65536):
        pass


def _say_without_end(peer: Peer, data: bytes) -> None:
    for _ in range(_ENDLESS):
        peer.sock.sendall(data)
    raise AssertionError("the client listened to the end")


# Before the greeting -------------------------------------------------------------------------------------------------


@hostile
def says_nothing(peer: Peer, tls: Contexts) -> None:
    """Accepts the connection and is silent for ever, as behind some firewalls."""
    _ignore(peer)


@hostile
def drips(peer: Peer, tls: Contexts) -> None:
    """Sends one byte of its greeting every 50 ms, without end: each read succeeds, the reply never does."""
    peer.sock.sendall(b"220 ")
    for _ in range(_ENDLESS):
        peer.sock.sendall(b".")
        time.sleep(DRIP_S)


@hostile
def hangs_up_at_once(peer: Peer, tls: Contexts) -> None:
    """Accepts the connection and ends it."""


@hostile
def banner_554(peer: Peer, tls: Contexts) -> None:
    """Refuses any conversation (RFC 5321 3.1)."""
    peer.say("554 5.7.1 No SMTP service for 192.0.2.7")
    expect_nothing_more(peer)


@hostile
def banner_421(peer: Peer, tls: Contexts) -> None:
    """Is too busy for now (RFC 5321 3.8)."""
    peer.say("421 4.3.2 mail.test: too many connections, come back later")
    expect_nothing_more(peer)


@hostile
def http_server(peer: Peer, tls: Contexts) -> None:
    """Is a web server that lost patience with a client that asks nothing."""
    page = f"<html><title>{PRIVATE}</title></html>"
    peer.say("HTTP/1.1 408 Request Timeout", f"Server: nginx ({PRIVATE})", "Content-Type: text/html", "", page)


@hostile
def patient_http_server(peer: Peer, tls: Contexts) -> None:
    """Is a web server that waits for a request and answers whatever comes with 400."""
    peer.sock.recv(65536)
    peer.say("HTTP/1.1 400 Bad Request", f"Server: nginx ({PRIVATE})", "Connection: close", "", PRIVATE)


@hostile
def ssh_server(peer: Peer, tls: Contexts) -> None:
    """Is an SSH server."""
    peer.say(f"SSH-2.0-OpenSSH_9.6 {PRIVATE}")
    peer.hear()


@hostile
def ftp_server(peer: Peer, tls: Contexts) -> None:
    """Is an FTP server, whose greeting looks like SMTP's; it knows neither EHLO nor HELO."""
    peer.say(f"220 ProFTPD Server ({PRIVATE})")
    while not (line := peer.hear()).startswith(("QUIT", _TLS_HELLO)):
        assert line.startswith(("EHLO ", "HELO ")), f"the client went on: {line}"
        peer.say(f"500 {line.split()[0]} not understood by {PRIVATE}")


@hostile
def imap_server(peer: Peer, tls: Contexts) -> None:
    """Is the provider's IMAP server."""
    peer.say(f"* OK [CAPABILITY IMAP4rev1] {PRIVATE} ready")
    peer.hear()


@hostile
def endless_line(peer: Peer, tls: Contexts) -> None:
    """Greets with a line that never ends."""
    peer.sock.sendall(b"220 " + PRIVATE.encode())
    _say_without_end(peer, b"x" * 4096)


@hostile
def endless_reply(peer: Peer, tls: Contexts) -> None:
    """Greets with a reply of ever more lines."""
    _say_without_end(peer, f"220-welcome to {PRIVATE}\r\n".encode() * 64)


@hostile
def binary_garbage(peer: Peer, tls: Contexts) -> None:
    """Answers with bytes that are no text in any language."""
    peer.say_bytes(bytes(range(255, 0, -1)) + PRIVATE.encode() + b"\r\n")
    peer.hear()


# Encryption ----------------------------------------------------------------------------------------------------------


@hostile
def tls_from_the_first_byte(peer: Peer, tls: Contexts) -> None:
    """Wants TLS at once, as on port 465, from a client that waits for a greeting in clear."""
    peer.start_tls(tls.good)
    peer.say("220 mail.test ESMTP ready")
    assert peer.hear() == "QUIT"
    peer.say("221 2.0.0 Bye")


@hostile
def clear_text_at_first(peer: Peer, tls: Contexts) -> None:
    """Greets in clear, as on port 587, a client that begins with TLS."""
    peer.say("220 mail.test ESMTP ready")
    hello = peer.hear()
    if hello.startswith(_TLS_HELLO):
        return
    # Whoever comes back to find out more is answered as a STARTTLS server answers.
    assert hello.startswith("EHLO "), hello
    peer.say("250-mail.test", "250 STARTTLS")
    expect_nothing_more(peer)


@hostile
def no_starttls(peer: Peer, tls: Contexts) -> None:
    """Offers no STARTTLS, but a sign-in in clear."""
    greet(peer, "AUTH PLAIN LOGIN XOAUTH2")
    expect_nothing_more(peer)


@hostile
def starttls_454(peer: Peer, tls: Contexts) -> None:
    """Offers STARTTLS and cannot start it just now (RFC 3207 4)."""
    greet(peer, "STARTTLS", "AUTH PLAIN")
    assert peer.hear() == "STARTTLS"
    peer.say("454 4.7.0 TLS not available due to temporary reason")
    expect_nothing_more(peer)


@hostile
def starttls_injection(peer: Peer, tls: Contexts) -> None:
    """Has bytes slipped in behind the answer to STARTTLS, to be taken for encrypted ones (CVE-2011-0411)."""
    greet(peer, "STARTTLS")
    assert peer.hear() == "STARTTLS"
    peer.say_bytes(b"220 2.0.0 Ready to start TLS\r\n250-mail.test\r\n250 AUTH PLAIN\r\n")
    peer.hear()
    raise AssertionError("the client went on")


def _with_certificate(name: str, story: str) -> None:
    def script(peer: Peer, tls: Contexts) -> None:
        encrypt(peer, getattr(tls, name))
        expect_nothing_more(peer)

    add(f"certificate_{name}" if name != "old" else "old_tls", story, script)


_with_certificate("expired", "Shows a certificate that ended yesterday.")
_with_certificate("not_yet_valid", "Shows a certificate that begins tomorrow, which a wrong clock here looks like.")
_with_certificate("other_name", "Shows a certificate made out for another name.")
_with_certificate("self_signed", "Shows a certificate that it signed itself.")
_with_certificate("stranger", "Shows a certificate of an authority that nobody knows.")
_with_certificate("old", "Knows TLS 1.0 and 1.1 only.")


@hostile
def hangs_up_in_the_handshake(peer: Peer, tls: Contexts) -> None:
    """Agrees to STARTTLS and ends the connection when the handshake begins."""
    greet(peer, "STARTTLS")
    assert peer.hear() == "STARTTLS"
    peer.say("220 2.0.0 Ready to start TLS")
    peer.sock.recv(65536)


@hostile
def silent_in_the_handshake(peer: Peer, tls: Contexts) -> None:
    """Agrees to STARTTLS and then says nothing."""
    greet(peer, "STARTTLS")
    assert peer.hear() == "STARTTLS"
    peer.say("220 2.0.0 Ready to start TLS")
    _ignore(peer)


# Greeting ------------------------------------------------------------------------------------------------------------


@hostile
def helo_only(peer: Peer, tls: Contexts) -> None:
    """Is so old that it knows HELO only, and with it no encryption."""
    peer.say("220 mail.test SMTP")
    assert peer.hear().startswith("EHLO ")
    peer.say("500 5.5.1 Command unrecognized")
    assert peer.hear().startswith("HELO ")
    peer.say("250 mail.test")
    expect_nothing_more(peer)


@hostile
def ehlo_550(peer: Peer, tls: Contexts) -> None:
    """Does not like the name we introduce ourselves with."""
    peer.say("220 mail.test ESMTP ready")
    assert peer.hear().startswith("EHLO ")
    peer.say("550 5.7.506 Access Denied, Bad HELO")
    expect_nothing_more(peer)


@hostile
def ehlo_421(peer: Peer, tls: Contexts) -> None:
    """Ends the conversation at EHLO for now."""
    peer.say("220 mail.test ESMTP ready")
    assert peer.hear().startswith("EHLO ")
    peer.say("421 4.3.0 mail.test is going down for maintenance")


@hostile
def hangs_up_after_the_banner(peer: Peer, tls: Contexts) -> None:
    """Greets and then ends the connection without an answer to EHLO."""
    peer.say("220 mail.test ESMTP ready")
    peer.hear()


@hostile
def endless_capabilities(peer: Peer, tls: Contexts) -> None:
    """Answers the EHLO after encryption with ever more extensions."""
    peer.say("220 mail.test ESMTP ready")
    if peer.hear().startswith(_TLS_HELLO):
        return
    peer.say("250-mail.test", "250 STARTTLS")
    assert peer.hear() in ("STARTTLS", "QUIT")
    peer.say("220 2.0.0 Ready to start TLS")
    peer.start_tls(tls.good)
    peer.hear()
    _say_without_end(peer, b"250-XTENSION\r\n" * 64)
