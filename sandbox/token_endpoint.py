"""The https side: token, revocation, metadata and keys. Machines talk to it, so there is no page."""

import threading

from flask import Flask, Response, jsonify, request

from sandbox.provider import Answer, Provider

LIMIT_BYTES = 64 * 1024


def create_token_app(provider: Provider, stopping: threading.Event) -> Flask:
    """Return the WSGI application; `stopping` ends the waiting of the slow-answers fault."""
    app = Flask("sandbox.token_endpoint", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=LIMIT_BYTES, MAX_FORM_MEMORY_SIZE=LIMIT_BYTES)

    # Every method arrives here, because oauthlib's refusal of a GET is part of what a client may see.
    @app.route("/token", methods=["GET", "POST"], endpoint="token")
    @app.route("/revoke", methods=["GET", "POST"], endpoint="revoke")
    def answer() -> Response:
        stopping.wait(provider.state.faults.seconds("slow_token"))
        judge = provider.token if request.endpoint == "token" else provider.revoke
        return _as_response(
            judge(
                method=request.method,
                query=request.query_string.decode(errors="replace"),
                content_type=request.headers.get("Content-Type", ""),
                headers=dict(request.headers),
                body=request.get_data(cache=False).decode(errors="replace"),
            )
        )

    @app.get("/.well-known/openid-configuration")
    @app.get("/.well-known/oauth-authorization-server")
    def metadata() -> Response:
        return jsonify(provider.metadata())

    @app.get("/jwks.json")
    def key_set() -> Response:
        return jsonify(provider.signer.key_set())

    return app


def _as_response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, dict(answer.headers))
    response.headers["Cache-Control"] = "no-store"
    return response
