"""What oauthlib asks the provider while it judges a request; every answer comes from the state."""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from oauthlib.common import Request
from oauthlib.oauth2 import RequestValidator
from oauthlib.oauth2.rfc6749 import errors

from sandbox.state import OFFLINE_SCOPE, SCOPES, SEND_SCOPE, Client, State

CALLBACK_PATH = "/oauth/callback"
CALLBACK_HOSTS = ("localhost", "127.0.0.1")
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def callback_origin(redirect_uri: str) -> str | None:
    """Return scheme, host and port of a callback address, or None when it is not one the clients registered.

    Registered is `/oauth/callback` on this machine, http or https, any port, and nothing around it.
    """
    try:
        parts = urlsplit(redirect_uri)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or parts.hostname not in CALLBACK_HOSTS:
        return None
    origin = f"{parts.scheme}://{parts.hostname}" + ("" if port is None else f":{port}")
    # Exact comparison leaves no room for user info, queries, fragments, dot segments or capitals.
    return origin if redirect_uri == origin + CALLBACK_PATH else None


class Validator(RequestValidator):  # type: ignore[misc]  # oauthlib ships no types
    """The provider's rules. Method names and signatures are oauthlib's."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state

    # Who asks

    def client_authentication_required(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        client = self.state.clients.get(request.client_id or "")
        # An unknown name is treated as confidential, so that it fails as invalid_client.
        return client is None or client.client_secret is not None or "Authorization" in request.headers

    def authenticate_client(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Check secret in the body or by Basic, never both (RFC 6749 2.3)."""
        basic = request.headers.get("Authorization")
        if basic is not None and request.client_secret is not None:
            raise errors.InvalidRequestError("Send the client secret once: in the body or by Basic.", request=request)
        name, secret = _from_basic(basic) if basic is not None else (request.client_id, request.client_secret)
        if basic is not None and request.client_id not in (None, name):
            return False
        client = self.state.clients.get(name or "")
        if client is None or not client.knows(secret):
            return False
        request.client = client
        request.client_id = client.client_id
        return True

    def authenticate_client_id(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> bool:
        client = self.state.clients.get(client_id or "")
        if client is None or client.client_secret is not None:
            return False
        request.client = client
        return True

    def validate_client_id(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> bool:
        request.client = self.state.clients.get(client_id)
        return request.client is not None

    # What for

    def validate_redirect_uri(
        self, client_id: str, redirect_uri: str, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        return callback_origin(redirect_uri) is not None

    def get_default_redirect_uri(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> None:
        # With any port allowed there is no default: a request without the address is refused.
        return None

    def validate_response_type(
        self, client_id: str, response_type: str, client: Client, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        return response_type == "code"

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Client, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        if grant_type == "client_credentials" and client.client_secret is None:
            return False
        return grant_type in GRANT_TYPES

    def get_default_scopes(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> list[str]:
        return [SEND_SCOPE]

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Client, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        if not scopes or any(scope not in SCOPES for scope in scopes):
            return False
        if request.grant_type == "client_credentials":
            # No person, so nothing to stay signed in as: the answer says that less was granted than asked for.
            request.scopes = [scope for scope in scopes if scope == SEND_SCOPE]
        elif scopes == [OFFLINE_SCOPE]:
            return False
        return bool(request.scopes)

    # PKCE

    def is_pkce_required(self, client_id: str, request: Request) -> bool:
        return True

    def get_code_challenge(self, code: str, request: Request) -> str:
        return str(request.sandbox_code.challenge)

    def get_code_challenge_method(self, code: str, request: Request) -> str:
        return str(request.sandbox_code.challenge_method)

    # Codes

    def save_authorization_code(
        self, client_id: str, code: dict[str, str], request: Request, *args: Any, **kwargs: Any
    ) -> None:
        self.state.add_code(
            code["code"],
            client_id=client_id,
            mailbox=request.user,
            scopes=tuple(request.scopes),
            redirect_uri=request.redirect_uri,
            challenge=request.code_challenge,
            challenge_method=request.code_challenge_method,
            nonce=request.nonce,
        )

    def validate_code(self, client_id: str, code: str, client: Client, request: Request, *args: Any, **kw: Any) -> bool:
        # The code is used up before the verifier is looked at: whoever guesses a verifier has one try.
        found = self.state.spend_code(code, client.client_id)
        if found is None:
            return False
        request.sandbox_code = found
        request.sandbox_grant = found.grant
        request.user = found.grant.mailbox
        request.scopes = list(found.grant.scopes)
        return True

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str, client: Client, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        if redirect_uri != request.sandbox_code.redirect_uri:
            # oauthlib would answer invalid_request; RFC 6749 5.2 names this case under invalid_grant.
            raise errors.InvalidGrantError("The redirect URI is not the one the code was sent to.", request=request)
        return True

    def invalidate_authorization_code(
        self, client_id: str, code: str, request: Request, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing is left to do: `validate_code` used it up."""

    # Tokens

    def validate_refresh_token(
        self, refresh_token: str, client: Client, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        grant = self.state.spend_refresh_token(refresh_token, client.client_id)
        if grant is None:
            raise errors.InvalidGrantError("Token has been expired or revoked.", request=request)
        request.sandbox_grant = grant
        request.user = grant.mailbox
        return True

    def get_original_scopes(self, refresh_token: str, request: Request, *args: Any, **kwargs: Any) -> list[str]:
        return list(request.sandbox_grant.scopes)

    def is_within_original_scope(
        self, request_scopes: list[str], refresh_token: str, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        return False

    def rotate_refresh_token(self, request: Request) -> bool:
        return self.state.faults.is_on("rotation")

    def save_bearer_token(self, token: dict[str, Any], request: Request, *args: Any, **kwargs: Any) -> None:
        grant = None if request.grant_type == "client_credentials" else request.sandbox_grant
        self.state.add_access_token(
            token["access_token"], client_id=request.client.client_id, scopes=tuple(request.scopes), grant=grant
        )
        fresh = token.get("refresh_token")
        if fresh is not None and grant is not None:
            self.state.add_refresh_token(fresh, grant, instead_of=request.refresh_token)

    def revoke_token(self, token: str, token_type_hint: str, request: Request, *args: Any, **kwargs: Any) -> None:
        self.state.revoke(token, request.client.client_id)


def _from_basic(header: str) -> tuple[str | None, str | None]:
    """Name and secret of a Basic header, each form-decoded (RFC 6749 2.3.1); (None, None) when it is none."""
    scheme, _, value = header.partition(" ")
    try:
        pair = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    name, separator, secret = pair.partition(":")
    if scheme.lower() != "basic" or not separator:
        return None, None
    return unquote_plus(name), unquote_plus(secret)


def check_challenge(request: Request) -> dict[str, str]:
    """Refuse a challenge that cannot be the SHA-256 of anything (oauthlib takes any text).

    Source: RFC 7636 4.2 and 4.4.1.
    """
    if not _S256_CHALLENGE.fullmatch(request.code_challenge or ""):
        raise errors.InvalidRequestError("code_challenge is not a base64url SHA-256.", request=request)
    return {}
