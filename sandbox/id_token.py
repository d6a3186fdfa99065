"""ID tokens: who consented, signed with RS256 by a key that lives as long as the process."""

import base64
import json
import threading
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY_ID = "sandbox-1"


class Signer:
    """Makes signed JSON Web Tokens, and shows the key to check them with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: rsa.RSAPrivateKey | None = None

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return the compact form of a token with these claims.

        Source: RFC 7515 3.1, RFC 7518 3.3.
        """
        header = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        signed = f"{_part(header)}.{_part(claims)}"
        signature = self._private_key().sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"

    def key_set(self) -> dict[str, list[dict[str, str]]]:
        """Return the JWK set of the provider. Source: RFC 7517 5."""
        numbers = self._private_key().public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID}
        return {"keys": [{**key, "n": _number(numbers.n), "e": _number(numbers.e)}]}

    def _private_key(self) -> rsa.RSAPrivateKey:
        # Made on first use: an RSA key takes longer than everything else a sandbox does at start.
        with self._lock:
            if self._key is None:
                self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            return self._key


def _part(value: Mapping[str, object]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
