"""What the rules need beside the database: the safe, the door to the internet, and the operator's settings.

Made once by app.py from the configuration and handed in as an argument, so that mail/ reads no environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from mail.nudges import NoNudges, Nudges
from mail.providers import Catalogue
from mail.smtp import Encryption, Timeouts
from security.outbound import Door
from security.vault import Vault


@dataclass(frozen=True)
class Equipment:
    vault: Vault
    door: Door
    providers: Catalogue
    public_url: str
    plaintext_auth_hosts: frozenset[str] = frozenset()
    implicit_tls_ports: frozenset[int] = frozenset({465, 2465})
    timeouts: Timeouts = field(default_factory=Timeouts)
    # (address, port) of the name servers that the domain check asks; those of this machine when there is none.
    dns_servers: tuple[tuple[str, int], ...] = ()
    # How workers are told of new mail; without one they find it by looking (once a second).
    nudges: Nudges = field(default_factory=NoNudges)
    # For how long a worker has a message or a slot before it must say again that it lives.
    lease: timedelta = timedelta(seconds=90)

    @property
    def redirect_uri(self) -> str:
        """Where providers send people back to after consent."""
        return f"{self.public_url}/oauth/callback"

    def encryption_for(self, port: int, *, use_ssl: bool) -> Encryption:
        """How to encrypt on this port: implicit TLS on its ports, else STARTTLS, which SSL on makes a must."""
        if port in self.implicit_tls_ports:
            return Encryption.IMPLICIT
        return Encryption.STARTTLS if use_ssl else Encryption.OPPORTUNISTIC
