"""Connections that say what will end them, and a record of what people have to be told about them.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ADDED = ("edition", "health_stage", "grant_ends_at", "grant_lifetime_s", "idle_limit_s", "care_until")


def upgrade():
    with op.batch_alter_table("connections") as batch:
        batch.add_column(sa.Column("edition", sa.Integer(), nullable=False, server_default="1"))
        batch.add_column(sa.Column("health_stage", sa.String(length=16), nullable=False, server_default=""))
        batch.add_column(sa.Column("grant_ends_at", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("grant_lifetime_s", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("idle_limit_s", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("care_until", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("connections") as batch:
        batch.alter_column("edition", server_default=None)
        batch.alter_column("health_stage", server_default=None)
    op.create_table(
        "connection_notices",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("occasion", sa.String(length=64), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("foreseen_at", sa.BigInteger(), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=80), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.id"],
            name=op.f("fk_connection_notices_connection_id_connections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_notices")),
        sa.UniqueConstraint(
            "connection_id", "kind", "occasion", name=op.f("uq_connection_notices_connection_id_kind_occasion")
        ),
        sa.UniqueConstraint("uid", name=op.f("uq_connection_notices_uid")),
    )
    op.create_index("ix_connection_notices_begun_at", "connection_notices", ["begun_at"])


def downgrade():
    op.drop_table("connection_notices")
    with op.batch_alter_table("connections") as batch:
        for name in ADDED:
            batch.drop_column(name)
