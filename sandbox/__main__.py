"""`python -m sandbox`: the sandbox on its usual ports, or on those named."""

import argparse
import json
import sys
from pathlib import Path

from sandbox.certificates import ensure_certificates
from sandbox.serve import DIRECTORY, HOST, SMTP_PORT, SMTPS_PORT, TOKEN_PORT, WEB_PORT, serve


def main() -> int:
    """Run until told to stop; returns 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="OAuth provider, SMTP server and inbox.")
    parser.add_argument("--web-port", type=int, default=WEB_PORT, help="pages (%(default)s)")
    parser.add_argument("--token-port", type=int, default=TOKEN_PORT, help="token endpoint, https (%(default)s)")
    parser.add_argument("--smtp-port", type=int, default=SMTP_PORT, help="SMTP with STARTTLS (%(default)s)")
    parser.add_argument("--smtps-port", type=int, default=SMTPS_PORT, help="SMTP with TLS (%(default)s)")
    parser.add_argument("--host", default=HOST, help="a loopback address (%(default)s)")
    parser.add_argument("--directory", default=DIRECTORY, help="keeps the certificates (%(default)s)")
    parser.add_argument(
        "--certificates-only", action="store_true", help="make the certificates, print their paths as JSON, and end"
    )
    wanted = vars(parser.parse_args())
    try:
        # The application must know the authority before it starts, and may start before the sandbox does.
        if wanted.pop("certificates_only"):
            files = ensure_certificates(Path(wanted["directory"]).resolve())
            sys.stdout.write(json.dumps({name: str(path) for name, path in files._asdict().items()}) + "\n")
            return 0
        serve(**wanted)
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
