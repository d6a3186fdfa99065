"""A Postfix of our own: a second real SMTP server, as strict and as terse as those that stores meet.

    server = Postfix(cert)                      # once a test session; `stop()` at the end
    dial(server.services["submission"])         # see SERVICES
    server.stored(result.queue_id)              # what arrived under this id, as `Stored`
    server.farewell(result.queue_id)            # what its connection came to, by Postfix's own account

Configuration, queue, mailboxes and log lie in a folder that goes away; it listens on free ports of loopback and has
no way to send anything on. There is no sign-in: whoever reaches it may send to MAILBOXES_AT. `fakes/mta.py` covers
signing in.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import tools
from tests.fakes.certs import ServerCert

MAILBOXES_AT = "example.com"
REJECTED, DEFERRED = f"reject@{MAILBOXES_AT}", f"defer@{MAILBOXES_AT}"
REJECTED_SENDER = f"refused-sender@{MAILBOXES_AT}"
SIZE_LIMIT_BYTES = 400_000
UNSIZED_LIMIT_BYTES = 220_000

_STARTTLS = {"smtpd_tls_security_level": "encrypt"}
_UNSIZED = {**_STARTTLS, "smtpd_delay_reject": "no", "message_size_limit": str(UNSIZED_LIMIT_BYTES)}
# What each service differs in. "submission" and "smtps" judge a sender only when the recipient comes, which is what
# Postfix does unless told otherwise; the rest judge at once.
SERVICES: dict[str, dict[str, str]] = {
    "submission": _STARTTLS,
    "smtps": {**_STARTTLS, "smtpd_tls_wrappermode": "yes"},
    "pipelined": {**_STARTTLS, "smtpd_delay_reject": "no", "smtpd_discard_ehlo_keywords": "chunking"},
    "plain": {**_STARTTLS, "smtpd_delay_reject": "no", "smtpd_discard_ehlo_keywords": "chunking,pipelining"},
    # One that waits no longer than a second for a command.
    "impatient": {**_STARTTLS, "smtpd_timeout": "1s"},
    # These do not say how large a message may be, so that only a refusal tells.
    "chunked_unsized": {**_UNSIZED, "smtpd_discard_ehlo_keywords": "size"},
    "pipelined_unsized": {**_UNSIZED, "smtpd_discard_ehlo_keywords": "size,chunking"},
    "plain_unsized": {**_UNSIZED, "smtpd_discard_ehlo_keywords": "size,chunking,pipelining"},
}

_MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file_prefixes = {home}
maillog_file = {home}/log
myhostname = postfix.test
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
smtpd_peername_lookup = no
mynetworks = 127.0.0.1
mydestination =
local_recipient_maps =
alias_maps =
default_transport = error:nothing leaves this machine
relay_transport = $default_transport

virtual_mailbox_domains = {domain}
virtual_mailbox_base = {home}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}

smtpd_relay_restrictions = reject_unauth_destination
smtpd_sender_restrictions =
    check_sender_access inline:{{{{{rejected_sender} = 550 5.7.1 This sender is not wanted here}}}}
smtpd_recipient_restrictions =
    check_recipient_access inline:{{
        {{{rejected} = 550 5.1.1 No such mailbox}}
        {{{deferred} = 450 4.2.1 This mailbox is busy}}
    }}
    permit_mynetworks, reject

message_size_limit = {size_limit}
smtpd_tls_cert_file = {cert_file}
smtpd_tls_key_file = {key_file}
smtpd_tls_received_header = yes

# Long ids are never used twice; short ones are, within the second.
enable_long_queue_ids = yes
# What arrives is stored as it came: nothing added, no headers completed.
local_header_rewrite_clients =
# No waiting for the sake of a machine under load.
smtpd_error_sleep_time = 0
in_flow_delay = 0
"""

_MASTER = """\
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
flush      unix  n - n 1000? 0 flush
error      unix  - - n - - error
retry      unix  - - n - - error
virtual    unix  - n n - - virtual
anvil      unix  - - n - 1 anvil
postlog    unix-dgram n - n - 1 postlogd
"""
_QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "trace")
# Of the sockets of its services, and one for mail that a local program would drop.
_OTHER_FOLDERS = ("private", "public", "maildrop")


@dataclass(frozen=True)
class Service:
    """Where one of the services listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Stored:
    """One copy of a message as Postfix put it into a mailbox.

    Attributes:
        received: the line Postfix added about itself, unfolded; it tells protocol and encryption.
        content: what lies below the lines that Postfix added, with CRLF line ends again.
    """

    queue_id: str
    sender: str
    recipient: str
    received: str
    content: bytes


class Postfix:
    """The server with all its services, running until `stop()`."""

    def __init__(self, cert: ServerCert) -> None:
        command = tools.postfix()
        assert command is not None
        self._command = command
        self._cert = cert
        self._home = Path(tempfile.mkdtemp(prefix="storepost-postfix-"))
        # Its processes work as other people and have to get here.
        self._home.chmod(0o755)
        self.services: dict[str, Service] = {}
        self._read: dict[str, Stored] = {}
        try:
            self._make_folders()
            self._start()
        except BaseException:
            shutil.rmtree(self._home, ignore_errors=True)
            raise
        self._master_pid = int((self._home / "queue/pid/master.pid").read_text())

    @property
    def log(self) -> str:
        """What Postfix has written so far."""
        log = self._home / "log"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def stored(self, queue_id: str) -> Stored:
        """Return the message of one recipient filed under this id, once it is in the mailbox."""
        (only,) = self.all_stored(queue_id, 1)
        return only

    def all_stored(self, queue_id: str, copies: int) -> list[Stored]:
        """Return the copies of a message, one for each recipient, once they are all there; by recipient."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [one for one in self._mailbox() if one.queue_id == queue_id]
            if len(found) >= copies:
                return sorted(found, key=lambda one: one.recipient)
            time.sleep(0.005)
        raise AssertionError(f"{queue_id} has not arrived {copies} times:\n{self.log[-3_000:]}")

    def contents(self) -> list[bytes]:
        """Return what lies in the mailbox now, of all messages, in no order."""
        return [one.content for one in self._mailbox()]

    def farewell(self, queue_id: str) -> dict[str, int]:
        """Return how often Postfix took each command on the connection that brought this message, once it has ended.

        Commands it refused count in "<name>/attempted" only, which is there when some were.
        """
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            log = self.log
            if taken := re.search(rf"/smtpd\[(\d+)\]: {re.escape(queue_id)}: client=", log):
                ended = re.compile(rf"/smtpd\[{taken[1]}\]: disconnect from \S+ (.*)")
                if found := ended.search(log, taken.end()):
                    return _counts(found[1])
            time.sleep(0.005)
        raise AssertionError(f"the connection of {queue_id} has not ended:\n{self.log[-3_000:]}")

    def stop(self) -> None:
        """Stop it, by the process id in its own queue folder, and make sure that nothing of it is left."""
        try:
            subprocess.run([self._command, "-c", str(self._home), "stop"], capture_output=True, timeout=20)
            deadline = time.monotonic() + 5
            while self._processes() and time.monotonic() < deadline:
                time.sleep(0.02)
            left = self._processes()
            assert not left, f"processes of Postfix are left: {left}"
        finally:
            shutil.rmtree(self._home, ignore_errors=True)

    def _make_folders(self) -> None:
        postfix, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        for name in ("queue", "queue/pid"):
            (self._home / name).mkdir(mode=0o755)
        queues = [(f"queue/{name}", postfix) for name in (*_QUEUES, *_OTHER_FOLDERS)]
        for name, owner in (*queues, ("data", postfix), ("mail", nobody)):
            (self._home / name).mkdir(mode=0o700)
            os.chown(self._home / name, owner.pw_uid, owner.pw_gid)
        main = _MAIN.format(
            home=self._home,
            domain=MAILBOXES_AT,
            uid=nobody.pw_uid,
            gid=nobody.pw_gid,
            rejected=REJECTED,
            deferred=DEFERRED,
            rejected_sender=REJECTED_SENDER,
            size_limit=SIZE_LIMIT_BYTES,
            cert_file=self._cert.cert_file,
            key_file=self._cert.key_file,
        )
        settings = self._home / "main.cf"
        settings.write_text(main)
        # Each program waits until the file is two seconds old, lest it reads one that is being written.
        os.utime(settings, (time.time() - 60,) * 2)

    def _start(self) -> None:
        """Start on ports that are free; another process may be quicker to take one, so try again then."""
        for attempts_left in (2, 1, 0):
            ports = _free_ports(len(SERVICES))
            lines = _MASTER
            for port, (name, options) in zip(ports, SERVICES.items(), strict=True):
                lines += f"127.0.0.1:{port} inet n - n - - smtpd\n  -o syslog_name=storepost/{name}\n"
                lines += "".join(f"  -o {option}={value}\n" for option, value in options.items())
                self.services[name] = Service("localhost", port)
            (self._home / "master.cf").write_text(lines)
            # Spares the check of an installation that was made a moment ago, which takes longer than all the rest.
            (self._home / "queue/quick-start").touch()
            done = subprocess.run(
                [self._command, "-c", str(self._home), "start"], capture_output=True, text=True, timeout=30
            )
            if done.returncode == 0:
                return
            # The reason is not in the log, which a process writes that had not started yet.
            if not attempts_left:
                raise RuntimeError(f"Postfix did not start: {done.stderr}\n{self.log}")

    def _mailbox(self) -> list[Stored]:
        # A name in "new" stands for a message that is complete and never changes.
        for path in (self._home / "mail/inbox/new").glob("*"):
            if path.name not in self._read:
                self._read[path.name] = _stored(path.read_bytes())
        return list(self._read.values())

    def _processes(self) -> list[str]:
        """Those of the group that the master leads, in the order of the kernel's listing; none that is only a name."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().rpartition(")")
            except OSError:
                continue  # it has just ended
            state, _parent, group = rest.split()[:3]
            if int(group) == self._master_pid and state != "Z":
                found.append(name + ")")
        return found


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _counts(farewell: str) -> dict[str, int]:
    """Read "ehlo=2 starttls=1 mail=1 rcpt=1/3 quit=1 commands=6/8"."""
    found = {}
    for part in farewell.split():
        name, _, numbers = part.partition("=")
        taken, _, attempted = numbers.partition("/")
        found[name] = int(taken)
        if attempted:
            found[f"{name}/attempted"] = int(attempted)
    return found


def _stored(raw: bytes) -> Stored:
    """Tell what Postfix put on top, in this order, from what it was given."""
    found = re.match(
        rb"Return-Path: <([^\n]*)>\nX-Original-To: [^\n]*\nDelivered-To: ([^\n]*)\n"
        rb"(Received: [^\n]*\n(?:[ \t][^\n]*\n)*)",
        raw,
    )
    assert found, raw[:500]
    sender, recipient, received = (part.decode() for part in found.groups())
    queue_id = re.search(r"\) with \w+ id (\w+)", received)
    assert queue_id, received
    content = raw[found.end() :].replace(b"\n", b"\r\n")
    return Stored(queue_id[1], sender, recipient, " ".join(received.split()), content)
