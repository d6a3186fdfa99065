"""The pages a person sees: consent, inbox, faults. No script, no cookie; the same data is there as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.wrappers import Response as BaseResponse

from sandbox.faults import CATALOGUE, Fault, Faults, FaultValue, Group, Kind
from sandbox.inbox import Inbox, Message
from sandbox.provider import CannotAsk, Provider, Question, Redirect
from sandbox.state import CLIENT_ID, CLIENT_SECRET, MAILBOX_PASSWORD, is_address

LIMIT_BYTES = 256 * 1024
# Names a browser on this machine reaches us by; anything else is a foreign name pointed at loopback (DNS rebinding).
HOST_NAMES = ["127.0.0.1", "localhost", "[::1]"]
Page = str | BaseResponse | tuple[str, int]

SCOPE_WORDS = {
    "smtp.send": "Send email from the mailbox",
    "offline_access": "Keep this access while you are away",
    "openid": "Know that it is you",
    "email": "See the email address",
    "profile": "See the name",
}


def create_web_app(provider: Provider, inbox: Inbox, addresses: Mapping[str, str]) -> Flask:
    """Return the WSGI application; `addresses` (label to value) are shown on the home page."""
    app = Flask(
        "sandbox.web", root_path=str(Path(__file__).parent), static_folder="static", template_folder="templates"
    )
    app.config.update(MAX_CONTENT_LENGTH=LIMIT_BYTES, TRUSTED_HOSTS=HOST_NAMES)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it; its base class does not
    app.register_blueprint(_consent_pages(provider))
    app.register_blueprint(_inbox_pages(inbox))
    app.register_blueprint(_fault_pages(provider.state.faults))
    app.before_request(_refuse_foreign_origins)
    app.after_request(_protect)
    app.register_error_handler(HTTPException, _error_page)

    @app.get("/")
    def home() -> str:
        faults_on = [name for name, value in provider.state.faults.as_dict().items() if value]
        return render_template(
            "home.html",
            addresses=addresses,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            password=MAILBOX_PASSWORD,
            message_count=len(inbox.messages()),
            fault_count=len(faults_on),
        )

    return app


# Consent


def _consent_pages(provider: Provider) -> Blueprint:
    bp = Blueprint("consent", __name__)

    @bp.get("/authorize")
    def ask() -> Page:
        query = request.query_string.decode(errors="replace")
        try:
            question = provider.ask(query)
        except CannotAsk as problem:
            return _error("This request cannot be answered", str(problem), 400)
        if isinstance(question, Redirect):
            return redirect(question.location, 303)
        return _consent_page(question, provider.state.open_consent(query), question.login_hint)

    @bp.post("/consent/allow")
    def allow() -> Page:
        ticket, mailbox = request.form.get("ticket", ""), request.form.get("mailbox", "").strip()
        query = provider.state.read_consent(ticket)
        if query is None:
            return _too_old()
        if not is_address(mailbox):
            question = provider.ask(query)
            assert isinstance(question, Question)
            error = "Enter a full email address, like shop@sandbox.example"
            return _consent_page(question, ticket, mailbox, error)
        if provider.state.close_consent(ticket) is None:
            return _too_old()
        return redirect(provider.allow(query, mailbox).location, 303)

    @bp.post("/consent/cancel")
    def cancel() -> Page:
        query = provider.state.close_consent(request.form.get("ticket", ""))
        return _too_old() if query is None else redirect(provider.deny(query).location, 303)

    return bp


def _consent_page(question: Question, ticket: str, mailbox: str, error: str = "") -> Page:
    page = render_template(
        "consent.html",
        question=question,
        scopes=[SCOPE_WORDS.get(scope, scope) for scope in question.scopes],
        host=urlsplit(question.redirect_origin).netloc,
        ticket=ticket,
        mailbox=mailbox,
        error=error,
    )
    response = Response(page, 422 if error else 200)
    # Browsers hold a form's redirect to form-action as well, and Allow is answered with one to the client.
    response.headers["Content-Security-Policy"] = _policy(f"'self' {question.redirect_origin}")
    return response


def _too_old() -> Page:
    reason = "It was answered already or has waited longer than ten minutes. Start again with Connect."
    return _error("This consent page is used up", reason, 400)


# Inbox


def _inbox_pages(inbox: Inbox) -> Blueprint:
    bp = Blueprint("inbox", __name__)

    @bp.get("/inbox")
    def index() -> str:
        return render_template("inbox.html", messages=inbox.messages()[::-1])

    @bp.get("/inbox.json")
    def as_json() -> Response:
        messages = inbox.messages()[::-1]
        return jsonify({"count": len(messages), "messages": [message.as_json() for message in messages]})

    @bp.get("/inbox/<int:number>")
    def message(number: int) -> str:
        return render_template("message.html", message=_found(number))

    @bp.get("/inbox/<int:number>.eml")
    def eml(number: int) -> Response:
        # Offered for saving: what a stranger wrote is never shown as a page of ours.
        response = Response(_found(number).content, mimetype="message/rfc822")
        response.headers["Content-Disposition"] = f'attachment; filename="message-{number}.eml"'
        return response

    @bp.post("/inbox/clear")
    def clear() -> Page:
        inbox.clear()
        return redirect(url_for("inbox.index"), 303)

    @bp.delete("/inbox")
    @bp.delete("/inbox.json")
    def delete() -> Response:
        inbox.clear()
        return Response(status=204)

    def _found(number: int) -> Message:
        return inbox.message(number) or abort(404)

    return bp


# Faults


def _fault_pages(faults: Faults) -> Blueprint:
    bp = Blueprint("faults", __name__)

    @bp.get("/faults")
    def index() -> Page:
        return _faults_page(faults.as_dict())

    @bp.post("/faults")
    def save() -> Page:
        typed = {fault.name: _typed(fault) for fault in CATALOGUE}
        errors = {}
        for fault in CATALOGUE:
            try:
                fault.checked(typed[fault.name])
            except ValueError as problem:
                errors[fault.name] = str(problem)
        if errors:
            return _faults_page(typed, errors)
        faults.set(**typed)
        return redirect(url_for("faults.index"), 303)

    @bp.get("/faults.json")
    def as_json() -> Response:
        return jsonify(faults.as_dict())

    @bp.put("/faults.json")
    def change() -> Response | tuple[Response, int]:
        """Set the named switches, leave the others; all or none."""
        wanted = request.get_json(silent=True)
        if not isinstance(wanted, dict):
            return jsonify(error="Send a JSON object of switches."), 400
        try:
            faults.set(**wanted)
        except ValueError as problem:
            return jsonify(error=str(problem)), 422
        return jsonify(faults.as_dict())

    @bp.post("/reset")
    def reset() -> Page:
        faults.reset()
        if request.accept_mimetypes.accept_html and "text/html" in request.headers.get("Accept", ""):
            return redirect(url_for("faults.index"), 303)
        return jsonify(faults.as_dict())

    return bp


def _faults_page(values: Mapping[str, object], errors: Mapping[str, str] | None = None) -> Page:
    groups = [(group, [fault for fault in CATALOGUE if fault.group is group]) for group in Group]
    page = render_template("faults.html", groups=groups, values=values, errors=errors or {}, Kind=Kind)
    return (page, 422) if errors else page


def _typed(fault: Fault) -> FaultValue:
    """What the form says about one switch; a number that is none stays text, for the message beside it."""
    text = request.form.get(fault.name, "").strip()
    if fault.kind is Kind.SWITCH:
        return bool(text)
    if fault.kind is Kind.SECONDS:
        try:
            return float(text or 0)
        except ValueError:
            return text
    return text


# For all pages


def _refuse_foreign_origins() -> None:
    """Let only our own pages change anything: loopback is in reach of every website the person visits.

    Programs send no Origin and pass.
    """
    origin = request.headers.get("Origin")
    if request.method not in ("GET", "HEAD", "OPTIONS") and origin not in (None, request.host_url.rstrip("/")):
        abort(403, "Only the sandbox's own pages may do that.")


def _policy(form_action: str) -> str:
    return (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        f"form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    )


def _protect(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _policy("'self'"))
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-cache" if request.endpoint == "static" else "no-store"
    return response


def _error(heading: str, reason: str, status: int) -> tuple[str, int]:
    return render_template("error.html", heading=heading, reason=reason), status


def _error_page(error: HTTPException) -> Any:
    if isinstance(error, SecurityError):
        # A foreign Host header: Flask has no way to build addresses then, and a page of ours would need some.
        return Response("Unknown host name.\n", 400, mimetype="text/plain")
    if request.path.endswith(".json"):
        return jsonify(error=error.description), error.code or 500
    return _error(error.name.capitalize(), error.description or "", error.code or 500)
