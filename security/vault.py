"""Values at rest: a keyring with named keys, and the vault that seals each value to the place where it is stored.

A sealed value reads `v1.<key id>.<data>`, data being nonce and AES-256-GCM ciphertext in base64url without padding.
The place (table, row, column) is authenticated with it, so a value copied to another row, another column or another
table does not open: someone with write access to the database cannot make one store send with another's password.

Nonces are random, 96 bits. NIST SP 800-38D 8.3 allows 2^32 of them for one key; `flask secrets rotate` is due long
before a mail service writes four billion values.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
import re
from typing import Any, Final, NamedTuple, NoReturn, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from security.secret import Secret

VERSION: Final = "v1"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

# No dot: it parts the sealed value. At most 32: a base64 key is longer, so a key never passes for a name.
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")

# 32 random bytes hold about 30 different values; fewer than 16 come once in 10^15 keys, or from a human.
_FEWEST_DIFFERENT_BYTES = 16


class KeyringError(Exception):
    """The keyring cannot be used. The text is one plain sentence for the operator, without any key material."""


class Unreadable(Exception):
    """A sealed value does not open: its key is missing, it was moved, or it is damaged.

    The text is one plain sentence that names the place and the key id, nothing of the value.
    """


class Place(NamedTuple):
    """Where a sealed value lives: table and column by name, row by its uid (made before the insert)."""

    table: str
    row: str
    column: str


@final
class Keyring:
    """Named 32-byte keys in order: the first one seals, all of them open."""

    __slots__ = ("_ciphers",)

    def __init__(self, ciphers: dict[str, AESGCM]) -> None:
        if not ciphers:
            raise KeyringError("The keyring is empty: make one with “flask secrets init”.")
        self._ciphers = ciphers

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Return the keyring that `text` describes.

        One `name:key` per line or separated by commas, the key being 32 bytes in base64; blank lines and lines that
        start with `#` do not count.

        Raises:
            KeyringError: nothing in it, a malformed entry, a name or key given twice, or a key that is no random key.
        """
        ciphers: dict[str, AESGCM] = {}
        seen: set[bytes] = set()
        lines = [line for line in text.lstrip("\ufeff").splitlines() if not line.lstrip().startswith("#")]
        entries = [entry.strip() for entry in ",".join(lines).split(",")]
        for number, entry in enumerate((entry for entry in entries if entry), start=1):
            name, key = _parse_entry(number, entry)
            if name in ciphers:
                raise KeyringError(f"The keyring names the key “{name}” twice: give each key its own name.")
            if key in seen:
                raise KeyringError(f"The keyring holds the key “{name}” under another name too: remove one of them.")
            seen.add(key)
            ciphers[name] = AESGCM(key)
        return cls(ciphers)

    @staticmethod
    def generate(name: str) -> str:
        """Return the text of a new keyring with one random key of this name, ending in a newline.

        Put it in front of the text of an older keyring and it becomes the key that seals.
        """
        if not _KEY_NAME.fullmatch(name):
            raise KeyringError("Name a key with up to 32 letters, digits, hyphens and underscores.")
        return f"{name}:{base64.b64encode(os.urandom(KEY_BYTES)).decode('ascii')}\n"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all keys, in order."""
        return tuple(self._ciphers)

    @property
    def first(self) -> str:
        """The name of the key that seals."""
        return next(iter(self._ciphers))

    def cipher(self, name: str) -> AESGCM | None:
        """Return the cipher of the key of this name, or None."""
        return self._ciphers.get(name)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A Keyring cannot be pickled: it would be written down in clear")


@final
class Vault:
    """Seals values for their place and opens them there."""

    __slots__ = ("_keyring",)

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @property
    def keyring(self) -> Keyring:
        """The keyring this vault works with."""
        return self._keyring

    def seal(self, plain: bytes | str | Secret, place: Place) -> str:
        """Return `plain` sealed with the first key, for this place only. Sealing twice gives two different texts.

        Raises:
            ValueError: the place is incomplete, or the text is no valid Unicode (lone surrogates).
        """
        key_id = self._keyring.first
        cipher = self._keyring.cipher(key_id)
        assert cipher is not None  # the first name is always in the ring
        nonce = os.urandom(NONCE_BYTES)
        data = nonce + cipher.encrypt(nonce, _to_bytes(plain), _associated_data(key_id, place))
        return f"{VERSION}.{key_id}.{base64.urlsafe_b64encode(data).rstrip(b'=').decode('ascii')}"

    def open(self, sealed: str, place: Place) -> bytes:
        """Return the bytes that were sealed for exactly this place.

        Raises:
            Unreadable: another place, an unknown key, or a value that was changed.
        """
        key_id, data = _split(sealed, place)
        cipher = self._keyring.cipher(key_id)
        if cipher is None:
            raise Unreadable(f"{_where(place)} was sealed with the key “{key_id}”, which is not in the keyring.")
        try:
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _associated_data(key_id, place))
        except InvalidTag:
            # "from None": nothing in the chain helps, and chains end in logs.
            raise Unreadable(
                f"{_where(place)} does not open with the key “{key_id}”: wrong key, moved or damaged."
            ) from None

    def open_secret(self, sealed: str, place: Place) -> Secret:
        """Return the text that was sealed for exactly this place, masked.

        Raises:
            Unreadable: as `open`, or the bytes are no text.
        """
        plain = self.open(sealed, place)
        try:
            return Secret(plain.decode("utf-8"))
        except UnicodeDecodeError:
            # A UnicodeDecodeError carries the bytes themselves.
            raise Unreadable(f"{_where(place)} opens, but holds no text.") from None

    def key_id_of(self, sealed: str) -> str:
        """Return the name of the key that a sealed value needs, known or not.

        Raises:
            Unreadable: this is no sealed value.
        """
        return _split(sealed, None)[0]

    def reseal_if_old(self, sealed: str, place: Place) -> str | None:
        """Return the value sealed anew with the first key, or None when that key sealed it already.

        Raises:
            Unreadable: as `open`. The caller keeps the old value: a key that is missing today may come back.
        """
        if self.key_id_of(sealed) == self._keyring.first:
            return None
        return self.seal(self.open(sealed, place), place)


def _parse_entry(number: int, entry: str) -> tuple[str, bytes]:
    """Return name and key of one entry. Errors count entries: quoting one could print a key."""
    name, colon, encoded = (part.strip() for part in entry.partition(":"))
    if not colon or not _KEY_NAME.fullmatch(name):
        raise KeyringError(f"Entry {number} of the keyring is not of the form “name:key”.")
    key = _decode(encoded.replace("+", "-").replace("/", "_").rstrip("="))
    if key is None:
        raise KeyringError(f"The key “{name}” of the keyring is not written in base64.")
    if len(key) != KEY_BYTES:
        raise KeyringError(f"The key “{name}” of the keyring has {len(key)} bytes instead of {KEY_BYTES}.")
    if _looks_made_up(key):
        raise KeyringError(
            f"The key “{name}” of the keyring is a sample or was typed by hand: make one with “flask secrets init”."
        )
    return name, key


def _looks_made_up(key: bytes) -> bool:
    """Return whether this is no random key: repeated, counted up or down, or readable text (samples are)."""
    steps = {(after - before) % 256 for before, after in itertools.pairwise(key)}
    return (
        len(set(key)) < _FEWEST_DIFFERENT_BYTES
        or key[:16] == key[16:]
        or len(steps) == 1
        or all(0x20 <= byte < 0x7F for byte in key)
    )


_TO_BASE64 = bytes.maketrans(b"-_", b"+/")


def _decode(text: str) -> bytes | None:
    """Return the bytes of unpadded base64url, or None; only the one canonical spelling counts."""
    if not text.isascii() or "+" in text or "/" in text or "=" in text:
        return None
    spare = len(text) % 4
    try:
        data = binascii.a2b_base64(text.encode("ascii").translate(_TO_BASE64) + b"=" * (-spare % 4), strict_mode=True)
    except binascii.Error:
        return None
    # Spare bits in the last character must be zero, or one value could be written in several ways.
    end = base64.urlsafe_b64encode(data[len(data) - len(data) % 3 :]).rstrip(b"=").decode("ascii") if spare else ""
    return data if text.endswith(end) else None


def _split(sealed: str, place: Place | None) -> tuple[str, bytes]:
    """Return key id and data of a sealed value."""
    parts = sealed.split(".")
    if len(parts) == 3 and parts[0] == VERSION and _KEY_NAME.fullmatch(parts[1]):
        data = _decode(parts[2])
        if data is not None and len(data) >= NONCE_BYTES + TAG_BYTES:
            return parts[1], data
    raise Unreadable(f"{_where(place)} is not a sealed value.")


def _associated_data(key_id: str, place: Place) -> bytes:
    """Return version, key id and place in one way only: each part with its length in front.

    Joined by a separator, ("a.b", "c") and ("a", "b.c") would read alike.
    """
    if not all(isinstance(part, str) and part for part in place):
        raise ValueError("A sealed value needs a table, a row and a column")
    parts = [part.encode("utf-8") for part in (VERSION, key_id, *place)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _to_bytes(plain: bytes | str | Secret) -> bytes:
    if isinstance(plain, bytes):
        return plain
    text = plain.reveal() if isinstance(plain, Secret) else plain
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # A UnicodeEncodeError carries the whole text.
        raise ValueError("The value to seal is not valid Unicode text") from None


def _where(place: Place | None) -> str:
    return "The value" if place is None else f"The value {place.table}.{place.column} of row {place.row}"
