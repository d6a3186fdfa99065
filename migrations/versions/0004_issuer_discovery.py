"""What an issuer's metadata says, kept with the connection, and how the app proves itself at the token endpoint.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = (
    # Until now every call named id and secret in its body.
    ("client_auth", sa.String(length=32), "client_secret_post"),
    ("issuer", sa.String(length=2048), ""),
    ("iss_required", sa.Boolean(), sa.false()),
    ("revocation_url", sa.String(length=2048), ""),
    ("pkce_method", sa.String(length=16), ""),
)


def upgrade():
    with op.batch_alter_table("connections") as batch:
        for name, kind, value in COLUMNS:
            batch.add_column(sa.Column(name, kind, nullable=False, server_default=value))
    with op.batch_alter_table("connections") as batch:
        for name, _, _ in COLUMNS:
            batch.alter_column(name, server_default=None)


def downgrade():
    with op.batch_alter_table("connections") as batch:
        for name, _, _ in reversed(COLUMNS):
            batch.drop_column(name)
