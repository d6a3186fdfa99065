"""The certificate of STARTTLS, read again when its files change: renewed ones come every few weeks, restarts do not."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0


class Certificate:
    """Certificate and key from files, as a context that always has the newest pair.

    Raises:
        ValueError: one sentence for the operator: the files cannot be read, or do not belong together.
    """

    def __init__(self, cert_file: str, key_file: str) -> None:
        self._files = (Path(cert_file), Path(key_file))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._loaded = self._changed()
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"The relay’s certificate cannot be used ({type(error).__name__}): check STOREPOST_RELAY_CERT_FILE "
                f"({cert_file}) and STOREPOST_RELAY_KEY_FILE ({key_file})."
            ) from None

    def look_again(self) -> None:
        """Use the files' present content for whoever connects from now on; when they are no pair, keep what we have."""
        try:
            changed = self._changed()
            if changed == self._loaded:
                return
            # Tried apart first: a context with a new certificate and an old key would serve nobody.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
            self._loaded = changed
            logger.info("the relay uses the new certificate")
        except (OSError, ssl.SSLError):
            logger.warning("the relay's new certificate cannot be used, the old one stays", exc_info=True)

    def _load(self, context: ssl.SSLContext) -> None:
        # An encrypted key would ask on the terminal; without a password it is refused.
        context.load_cert_chain(*self._files, password=lambda: b"")

    def _changed(self) -> tuple[int, ...]:
        return tuple(file.stat().st_mtime_ns for file in self._files)
