"""Which addresses Storepost may open a connection to: the public ones, and what the operator allowed.

Only the judging is here; `security.outbound` resolves, judges and dials. The lists follow the IANA special-purpose
address registries (RFC 6890 and its updates). They are written out because `ipaddress.is_global` changed its mind
between Python releases and says nothing about addresses that carry an IPv4 address inside.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# First match wins, so the narrower networks stand first.
_V4_KINDS: tuple[tuple[str, tuple[ipaddress.IPv4Network, ...]], ...] = tuple(
    (kind, tuple(ipaddress.IPv4Network(text) for text in texts))
    for kind, texts in (
        ("unspecified", ("0.0.0.0/8",)),
        ("loopback", ("127.0.0.0/8",)),
        ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
        ("shared", ("100.64.0.0/10",)),  # RFC 6598, carrier NAT
        ("link-local", ("169.254.0.0/16",)),  # the metadata service of most clouds among them
        ("documentation", ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")),
        ("benchmarking", ("198.18.0.0/15",)),
        ("multicast", ("224.0.0.0/4",)),
        ("reserved", ("192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4")),
    )
)
_V6_KINDS: tuple[tuple[str, tuple[ipaddress.IPv6Network, ...]], ...] = tuple(
    (kind, tuple(ipaddress.IPv6Network(text) for text in texts))
    for kind, texts in (
        ("unspecified", ("::/128",)),
        ("loopback", ("::1/128",)),
        ("private", ("fc00::/7", "fec0::/10")),
        ("link-local", ("fe80::/10",)),
        ("multicast", ("ff00::/8",)),
        ("documentation", ("2001:db8::/32", "3fff::/20")),
        ("benchmarking", ("2001:2::/48",)),
        # Teredo is 2001::/32. It carries two IPv4 addresses, its relays are gone, and no mail host lives there.
        ("reserved", ("2001::/23", "2620:4f:8000::/48")),
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Everything handed out for the public internet so far. What lies outside (IPv4-compatible ::/96, NAT64 for local use
# 64:ff9b:1::/48, discard 100::/64, segment routing 5f00::/16, ...) is refused without being listed.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

# The second half of an ISATAP address (RFC 5214 6.1): 0000:5efe or 0200:5efe, then an IPv4 address.
_ISATAP = (0x00005EFE, 0x02005EFE)

# Names that never mean a host on the public internet: RFC 6761, RFC 6762, RFC 8375, RFC 9476, ICANN's .internal.
_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa", "invalid", "onion", "alt")

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)


def why_not_public(address: str | IPAddress) -> str | None:
    """Return what kind of non-public address this is ("loopback", "private", ...), or None for a public one.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, NAT64, ISATAP) is judged by both. Networks that
    translate with a prefix of their own (RFC 6052 2.2) cannot be told from public ones: no list knows their prefix.
    """
    try:
        ip = _parse(address)
    except ValueError:
        return "unreadable"
    if isinstance(ip, ipaddress.IPv4Address):
        return _kind_of(ip, _V4_KINDS)
    embedded = _embedded_v4(ip)
    if ip in _MAPPED or ip in _NAT64:
        assert embedded is not None  # both carry it in their last 32 bits
        return _kind_of(embedded, _V4_KINDS)
    kind = _kind_of(ip, _V6_KINDS)
    if kind is None and ip not in _GLOBAL_UNICAST:
        kind = "reserved"
    if kind is None and embedded is not None:
        kind = _kind_of(embedded, _V4_KINDS)
    return kind


def why_not_public_name(host: str) -> str | None:
    """Return why this name or literal cannot be public, without resolving it, or None.

    For the way through a proxy, which resolves by itself. Number forms that the C library reads as an IPv4 address
    ("127.1", "0x7f000001", "2130706433") are judged as that address.
    """
    name = normal_host(host)
    try:
        return why_not_public(_parse(name))
    except ValueError:
        pass
    try:
        return why_not_public(ipaddress.IPv4Address(socket.inet_aton(name)))
    except (OSError, ValueError):
        # ValueError covers names that do not encode: the next test refuses them.
        pass
    if not _HOST_NAME.fullmatch(name):
        return "unreadable"
    if "." not in name or any(name == local or name.endswith(f".{local}") for local in _LOCAL_NAMES):
        return "local name"
    return None


def normal_host(host: str) -> str:
    """Return a host as it is compared: lower case, no brackets of an IPv6 literal, no dot at the end."""
    return host.strip().removeprefix("[").removesuffix("]").rstrip(".").lower()


@dataclass(frozen=True)
class AllowRule:
    """One opening in the guard, made by the operator: a host name or a network, with its ports.

    A host rule is about the name that was asked for, whatever it resolves to; a network rule is about the address.
    `ports` is None for all ports.
    """

    host: str | None
    network: IPNetwork | None
    ports: frozenset[int] | None

    @classmethod
    def parse(cls, text: str) -> AllowRule:
        """Return the rule written as `host:ports` or `network:ports`.

        `mail.corp.example:587,465`, `10.0.0.0/8:25`, `127.0.0.1:8027`, `[fd00::/8]:25`; `*` for all ports.

        Raises:
            ValueError: with a sentence for the operator.
        """
        target, colon, port_text = text.strip().rpartition(":")
        bracketed = target.startswith("[")
        if not colon or not target or (":" in target and not bracketed):
            raise ValueError(f"“{text}” needs a port: write host:port, network:port or [IPv6 network]:port")
        ports = _parse_ports(text, port_text)
        if bracketed:
            match = re.fullmatch(r"\[([^\[\]]*)\](/[0-9]+)?", target)
            target = match[1] + (match[2] or "") if match else target
        try:
            return cls(host=None, network=ipaddress.ip_network(target), ports=ports)
        except ValueError:
            if "/" in target:
                raise ValueError(f"“{target}” is not a network: write it like 10.0.0.0/8") from None
        host = normal_host(target)
        if bracketed or not _HOST_NAME.fullmatch(host):
            raise ValueError(f"“{target}” is neither a host name nor an address")
        return cls(host=host, network=None, ports=ports)

    @classmethod
    def parse_list(cls, text: str) -> list[AllowRule]:
        """Return the rules of a list separated by commas, blanks or line ends; a bare number adds a port.

        `mail.corp.example:587,465 10.0.0.0/8:25` is two rules, the first with two ports.

        Raises:
            ValueError: with a sentence for the operator.
        """
        entries: list[str] = []
        for part in re.split(r"[,\s]+", text.strip()):
            if entries and part.isascii() and part.isdigit():
                entries[-1] += f",{part}"
            elif part:
                entries.append(part)
        return [cls.parse(entry) for entry in entries]

    def allows(self, host: str, address: str | None, port: int) -> bool:
        """Return whether this rule opens the way to `address` (None: not known, a proxy resolves) for `host`."""
        if self.ports is not None and port not in self.ports:
            return False
        if self.network is None:
            return normal_host(host) == self.host
        try:
            ip = _parse(host if address is None else address)
        except ValueError:
            return False
        # ::ffff:10.0.0.1 is dialed as 10.0.0.1, so a rule for the one speaks for the other.
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return ip.version == self.network.version and ip in self.network


def is_allowed(rules: Iterable[AllowRule], host: str, address: str | None, port: int) -> bool:
    """Return whether any of the rules opens the way."""
    return any(rule.allows(host, address, port) for rule in rules)


def _parse(address: str | IPAddress) -> IPAddress:
    if isinstance(address, str):
        # The zone of a link-local answer ("fe80::1%eth0") is no part of what is judged.
        return ipaddress.ip_address(address.partition("%")[0])
    return address


def _kind_of(ip: IPAddress, kinds: Sequence[tuple[str, Sequence[IPNetwork]]]) -> str | None:
    return next((kind for kind, networks in kinds if any(ip in network for network in networks)), None)


def _embedded_v4(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that a packet to `ip` may end up at, or None."""
    number = int(ip)
    if ip in _SIX_TO_FOUR:  # RFC 3056 2: right after the prefix
        return ipaddress.IPv4Address((number >> 80) & 0xFFFFFFFF)
    if ip in _MAPPED or ip in _NAT64 or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None


def _parse_ports(text: str, port_text: str) -> frozenset[int] | None:
    if port_text.strip() == "*":
        return None
    ports = set()
    for part in port_text.split(","):
        digits = part.strip()
        if not re.fullmatch(r"[0-9]{1,5}", digits) or not 1 <= int(digits) <= 65535:
            raise ValueError(f"“{text}” needs a port from 1 to 65535, or * for all")
        ports.add(int(digits))
    return frozenset(ports)
