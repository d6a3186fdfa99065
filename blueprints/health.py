"""Alive and ready, for load balancers; without detail, because anyone may ask."""

from __future__ import annotations

from flask import Blueprint, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from blueprints.web import public
from extensions import db

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@public("says only that the process answers")
def alive() -> Response:
    return Response("ok\n", mimetype="text/plain")


@bp.get("/readyz")
@public("says only whether the database answers")
def ready() -> Response:
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return Response("not ready\n", status=503, mimetype="text/plain")
    return Response("ok\n", mimetype="text/plain")
