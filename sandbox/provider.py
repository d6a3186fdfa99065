"""The authorization server: oauthlib's endpoints over our state.

PKCE with S256 is required of everybody, answers carry `iss`, codes live once, and refresh tokens rotate when the
switch says so. oauthlib is always told an https address: the consent page is plain http on loopback, which providers
never are, and its environment variable for that would loosen every other use of oauthlib in the same process.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from oauthlib.common import Request, add_params_to_uri
from oauthlib.oauth2 import (
    AuthorizationCodeGrant,
    AuthorizationEndpoint,
    BearerToken,
    ClientCredentialsGrant,
    RefreshTokenGrant,
    RevocationEndpoint,
    TokenEndpoint,
)
from oauthlib.oauth2.rfc6749 import errors
from oauthlib.oauth2.rfc6749.grant_types.authorization_code import code_challenge_method_s256

from sandbox.id_token import Signer
from sandbox.state import CODE_LIFETIME_S, OFFLINE_SCOPE, SCOPES, State, subject_of
from sandbox.validator import GRANT_TYPES, Validator, callback_origin, check_challenge

TENANT_ID = "5a4db0c5-0000-4000-8000-000000000000"
FORM_TYPE = "application/x-www-form-urlencoded"
RETRY_AFTER_S = 2


class Answer(NamedTuple):
    """An HTTP answer of the token endpoint."""

    status: int
    headers: Mapping[str, str]
    body: str


class Redirect(NamedTuple):
    """Where the browser goes next."""

    location: str


@dataclass(frozen=True)
class Question:
    """What the consent page asks."""

    client_id: str
    scopes: tuple[str, ...]
    login_hint: str
    redirect_origin: str


class CannotAsk(Exception):
    """The request names no client or callback we know, so nobody may be redirected; the text says what is wrong."""


class S256CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]  # oauthlib ships no types
    """The code grant without PKCE's `plain`, which proves nothing to whoever saw the request."""

    _code_challenge_methods = {"S256": code_challenge_method_s256}


class Server(AuthorizationEndpoint, TokenEndpoint, RevocationEndpoint):  # type: ignore[misc]  # as above
    """oauthlib's ready-made servers lack client credentials or allow the password grant; this one is exact."""

    def __init__(self, validator: Validator, code_grant: S256CodeGrant) -> None:
        bearer = BearerToken(validator, expires_in=lambda _request: validator.state.lifetime_s())
        AuthorizationEndpoint.__init__(self, "code", bearer, {"code": code_grant})
        grants = {
            "authorization_code": code_grant,
            "refresh_token": RefreshTokenGrant(validator),
            "client_credentials": ClientCredentialsGrant(validator),
        }
        TokenEndpoint.__init__(self, "authorization_code", bearer, grants)
        RevocationEndpoint.__init__(self, validator)
        grants["refresh_token"].register_token_modifier(keep_refresh_token_unless_rotated)


def keep_refresh_token_unless_rotated(token: dict[str, Any], _bearer: BearerToken, request: Request) -> dict[str, Any]:
    """Say nothing about a refresh token that did not change, as Google does: the client keeps what it has."""
    if token.get("refresh_token") == request.refresh_token:
        del token["refresh_token"]
    return token


class Provider:
    """Everything the consent page and the token endpoint decide; they only carry it over HTTP.

    `issuer` is the https address of the token endpoint, known once its port is.
    """

    def __init__(self, state: State, *, issuer: str, authorize_url: str) -> None:
        self.state = state
        self.issuer = issuer
        self.authorize_url = authorize_url
        self.signer = Signer()
        validator = Validator(state)
        code_grant = S256CodeGrant(validator, post_auth=[check_challenge])
        code_grant.register_token_modifier(self._finish_code_token)
        self._server = Server(validator, code_grant)

    # Consent

    def ask(self, query: str) -> Question | Redirect:
        """Judge an authorization request, given as its query string.

        Raises:
            CannotAsk: unknown client, foreign redirect URI or a repeated parameter.

        Source: RFC 6749 4.1.2.1, RFC 9207 2.
        """
        _refuse_repeats(query)
        uri = self._as_https(query)
        try:
            scopes, details = self._server.validate_authorization_request(uri)
        except errors.FatalClientError as error:
            raise CannotAsk(error.description or error.error) from error
        except errors.OAuth2Error as error:
            return self._redirect(error.in_uri(error.redirect_uri))
        login_hint = details["request"].login_hint or ""
        origin = callback_origin(details["redirect_uri"])
        assert origin is not None
        return Question(details["client_id"], tuple(scopes), login_hint, origin)

    def allow(self, query: str, mailbox: str) -> Redirect:
        """Return the way back to the client with a code, or with access_denied when the fault says so."""
        faults = self.state.faults
        if faults.is_on("deny_consent"):
            return self.deny(query, "A policy of your organization does not allow this app.")
        user = faults.word("other_mailbox") or mailbox
        with self.state.lock:
            headers, _body, _status = self._server.create_authorization_response(
                self._as_https(query), credentials={"user": user}
            )
        return self._redirect(headers["Location"])

    def deny(self, query: str, reason: str = "The person did not consent.") -> Redirect:
        """Return the way back to the client with access_denied."""
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        error = errors.AccessDeniedError(description=reason, state=parameters.get("state"))
        return self._redirect(error.in_uri(parameters["redirect_uri"]))

    # Token endpoint

    def token(self, *, method: str, query: str, content_type: str, headers: Mapping[str, str], body: str) -> Answer:
        """Answer a token request. Source: RFC 6749 5."""
        return self._answer("token", method, query, content_type, headers, body)

    def revoke(self, *, method: str, query: str, content_type: str, headers: Mapping[str, str], body: str) -> Answer:
        """Answer a revocation request. Source: RFC 7009 2."""
        return self._answer("revoke", method, query, content_type, headers, body)

    def metadata(self) -> dict[str, Any]:
        """Return what a client can learn about this server. Source: RFC 8414 2, OpenID Connect Discovery 3."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": self.authorize_url,
            "token_endpoint": f"{self.issuer}/token",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "jwks_uri": f"{self.issuer}/jwks.json",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": list(GRANT_TYPES),
            "scopes_supported": list(SCOPES),
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "none"],
            "revocation_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "none"],
            "authorization_response_iss_parameter_supported": True,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def _answer(
        self, endpoint: str, method: str, query: str, content_type: str, headers: Mapping[str, str], body: str
    ) -> Answer:
        if self.state.faults.is_on("token_5xx"):
            return _error_answer(
                errors.TemporarilyUnavailableError(status_code=503), {"Retry-After": str(RETRY_AFTER_S)}
            )
        try:
            if content_type.partition(";")[0].strip().lower() != FORM_TYPE:
                raise errors.InvalidRequestError(f"Send a POST with {FORM_TYPE}.")
            repeated = _repeats(body)
            if repeated:
                raise errors.InvalidRequestError(f"Repeated parameter: {repeated}.")
            uri = f"{self.issuer}/{endpoint}" + (f"?{query}" if query else "")
            respond = (
                self._server.create_token_response if endpoint == "token" else self._server.create_revocation_response
            )
            # One request at a time: two refreshes with one token must not both find it unused.
            with self.state.lock:
                answer_headers, answer_body, status = respond(uri, method, body, dict(headers))
        except errors.OAuth2Error as error:
            return _error_answer(error)
        if status == 401:
            # oauthlib answers with Bearer; RFC 6749 5.2 wants the scheme the client used.
            answer_headers["WWW-Authenticate"] = 'Basic realm="Storepost sandbox"'
        return Answer(status, answer_headers, answer_body or "")

    def _finish_code_token(self, token: dict[str, Any], _bearer: BearerToken, request: Request) -> dict[str, Any]:
        """Add the ID token, and take the refresh token away from whoever did not ask for one.

        The ID token comes whether or not `openid` was asked for: an SMTP client has no other way to learn who
        consented, and unknown members are ignored by everybody else (RFC 6749 5.1).
        """
        if OFFLINE_SCOPE not in request.scopes or self.state.faults.is_on("no_refresh_token"):
            token.pop("refresh_token", None)
        now = int(self.state.clock())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": request.client.client_id,
            "sub": subject_of(request.user),
            "email": request.user,
            "preferred_username": request.user,
            "tid": TENANT_ID,
            "iat": now,
            "exp": now + CODE_LIFETIME_S,
        }
        if request.sandbox_code.nonce:
            claims["nonce"] = request.sandbox_code.nonce
        token["id_token"] = self.signer.sign(claims)
        return token

    def _as_https(self, query: str) -> str:
        return f"{self.issuer}/authorize?{query}"

    def _redirect(self, location: str) -> Redirect:
        return Redirect(str(add_params_to_uri(location, [("iss", self.issuer)])))


def _repeats(encoded: str) -> str:
    """The first parameter that comes twice, or nothing (RFC 6749 3.1 and 3.2 forbid it)."""
    seen = Counter(name for name, _value in parse_qsl(encoded, keep_blank_values=True))
    return next((name for name, count in seen.items() if count > 1), "")


def _refuse_repeats(query: str) -> None:
    repeated = _repeats(query)
    if repeated:
        raise CannotAsk(f"The parameter {repeated} comes twice.")


def _error_answer(error: errors.OAuth2Error, extra: Mapping[str, str] | None = None) -> Answer:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache", **(extra or {})}
    body = {"error": error.error, "error_description": error.description or ""}
    return Answer(error.status_code, headers, json.dumps({name: text for name, text in body.items() if text}))
