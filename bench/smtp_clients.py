"""The Python clients of the SMTP benchmark, each run in a process of its own.

    python -m bench.smtp_clients NAME --port PORT --messages FILE [--ca PEM]

It connects, signs in and says {"ready": …}. Each line "N" then makes it send N messages (the TLS clients: make N
connections) and answer with the seconds and the CPU seconds that took, sign-in and start-up not included.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import smtplib
import ssl
import sys
import time
from collections.abc import Callable, Iterator

import aiosmtplib

from bench import smtp_messages
from bench.processes import say
from bench.smtp_messages import RECIPIENT, SENDER, TOKEN, USER
from mail.smtp import BearerLogin, Conversation, Encryption, Endpoint
from mail.smtp.records import Envelope
from security.outbound import AllowRule, Door
from security.secret import Secret

HOST = "127.0.0.1"


class Client:
    """What all have in common: the messages in turn. `delivers` is whether a unit is a message."""

    delivers = True

    def __init__(self, port: int, messages: list[bytes], ca_file: str | None) -> None:
        self.port = port
        self.ca_file = ca_file
        self._messages = itertools.cycle(messages)

    def open(self) -> None:
        """Connect and sign in, where that is not part of what is measured."""

    def send(self, number: int) -> None:
        """Send so many; every client has a way of its own, and nothing is measured of one that has none."""
        raise NotImplementedError

    def close(self) -> None:
        """Say goodbye."""

    def messages(self, number: int) -> Iterator[bytes]:
        return itertools.islice(self._messages, number)


class Ours(Client):
    """`Conversation.send`: one message in flight."""

    def open(self) -> None:
        self.conversation = self.connected()

    def connected(self) -> Conversation:
        encryption = Encryption.IMPLICIT if self.ca_file else Encryption.OPPORTUNISTIC
        endpoint = Endpoint(HOST, self.port, encryption, plaintext_auth=True)
        conversation = Conversation(endpoint, door=self.door())
        conversation.open()
        conversation.authenticate(BearerLogin(USER, Secret(TOKEN)))
        return conversation

    def door(self) -> Door:
        return Door(AllowRule.parse_list(f"{HOST}:*"), ca_file=self.ca_file)

    def send(self, number: int) -> None:
        for message in self.messages(number):
            self.conversation.send(SENDER, (RECIPIENT,), message, before_commit=yes)

    def close(self) -> None:
        self.conversation.close()


class OursInWindow(Ours):
    """`Conversation.send_all` with eight messages in flight."""

    def send(self, number: int) -> None:
        envelopes = (Envelope(SENDER, (RECIPIENT,), message, yes) for message in self.messages(number))
        for sent in self.conversation.send_all(envelopes, window=8):
            if sent.error is not None:
                raise sent.error


class OursOverTLS(Ours):
    """A connection with TLS and sign-in for each unit, all with the context that `Door` keeps."""

    delivers = False

    def open(self) -> None:
        self.connected().close()

    def send(self, number: int) -> None:
        for _ in range(number):
            self.connected().close()

    def close(self) -> None:
        """Nothing stays open."""


class OursOverNewTLS(OursOverTLS):
    """The same with a new default context for each connection, as `smtplib` and most code around it has it."""

    def door(self) -> Door:
        door = super().door()
        door.tls_context = ssl.create_default_context()
        door.tls_context.load_verify_locations(self.ca_file)
        return door


class Smtplib(Client):
    def open(self) -> None:
        # The name is given because looking it up may take seconds and is not what is measured.
        self.server = smtplib.SMTP(HOST, self.port, local_hostname="localhost", timeout=30)
        self.server.ehlo()
        self.server.auth("XOAUTH2", lambda challenge=None: f"user={USER}\x01auth=Bearer {TOKEN}\x01\x01")

    def send(self, number: int) -> None:
        for message in self.messages(number):
            self.server.sendmail(SENDER, [RECIPIENT], message)

    def close(self) -> None:
        self.server.quit()


class Noop(Smtplib):
    """No message, one command: what a round trip costs here and now."""

    delivers = False

    def send(self, number: int) -> None:
        for _ in range(number):
            self.server.noop()


class SmtplibEach(Smtplib):
    """A connection and a sign-in for every message."""

    def open(self) -> None:
        """Nothing is kept open."""

    def send(self, number: int) -> None:
        for message in self.messages(number):
            super().open()
            self.server.sendmail(SENDER, [RECIPIENT], message)
            self.server.quit()

    def close(self) -> None:
        """Nothing stays open."""


class Aiosmtplib(Client):
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.server = aiosmtplib.SMTP(hostname=HOST, port=self.port, start_tls=False, local_hostname="localhost")
        self.runner.run(self._open())

    async def _open(self) -> None:
        await self.server.connect()
        await self.server.auth_xoauth2(USER, TOKEN)

    def send(self, number: int) -> None:
        self.runner.run(self._send(number))

    async def _send(self, number: int) -> None:
        for message in self.messages(number):
            await self.server.sendmail(SENDER, [RECIPIENT], message)

    def close(self) -> None:
        self.runner.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        await self.server.quit()


CLIENTS: dict[str, Callable[[int, list[bytes], str | None], Client]] = {
    "ours": Ours,
    "ours-8": OursInWindow,
    "ours-tls": OursOverTLS,
    "ours-new-tls": OursOverNewTLS,
    "smtplib": Smtplib,
    "smtplib-each": SmtplibEach,
    "aiosmtplib": Aiosmtplib,
    "noop": Noop,
}


def yes() -> bool:
    """The question before the commit, which the delivery engine always asks."""
    return True


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=sorted(CLIENTS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", required=True)
    parser.add_argument("--ca")
    arguments = parser.parse_args()
    client = CLIENTS[arguments.name](arguments.port, smtp_messages.read(arguments.messages), arguments.ca)
    client.open()
    say(ready=arguments.name)
    for line in sys.stdin:
        number = int(line)
        cpu, began = cpu_s(), time.perf_counter()
        client.send(number)
        seconds, used_s = time.perf_counter() - began, cpu_s() - cpu
        say(delivered=number if client.delivers else 0, seconds=seconds, cpu_s=used_s)
    client.close()


if __name__ == "__main__":
    main()
