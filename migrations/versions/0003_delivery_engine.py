"""The delivery engine: queues that stay small, lanes with their limits, workers that are seen, content in pieces.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WAITING = "status IN ('queued', 'deferred', 'uncertain')"
PARTIAL = {
    "ix_messages_waiting": (["store_id", "priority", "due_at", "id"], WAITING),
    "ix_messages_waiting_due": (["store_id", "due_at"], WAITING),
    "ix_messages_sent": (["store_id", "ended_at"], "status = 'sent'"),
    "ix_messages_sending": (["lease_until"], "status = 'sending'"),
    "ix_messages_expiring": (["expires_at"], "expires_at IS NOT NULL AND ended_at IS NULL"),
    "ix_messages_unpurged": (["ended_at"], "ended_at IS NOT NULL AND purged_at IS NULL"),
    "ix_messages_purged": (["purged_at"], "purged_at IS NOT NULL"),
    "ix_messages_resent_from": (["store_id", "resent_from", "id"], "resent_from <> ''"),
}


def upgrade():
    with op.batch_alter_table("email_settings") as batch:
        batch.add_column(sa.Column("on_uncertain", sa.String(length=32), nullable=False, server_default="retry"))
    with op.batch_alter_table("email_settings") as batch:
        batch.alter_column("on_uncertain", server_default=None)

    op.drop_index("ix_messages_store_id_held", table_name="messages")
    op.drop_index("ix_messages_store_id_status_priority_due_at", table_name="messages")
    op.drop_index("ix_messages_status_due_at", table_name="messages")
    op.drop_index("ix_messages_store_id_status_ended_at", table_name="messages")
    with op.batch_alter_table("messages") as batch:
        batch.add_column(sa.Column("last_attempt", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("purged_at", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("resent_from", sa.String(length=32), nullable=False, server_default=""))
    # New attempts are numbered from here on, where the highest number was looked up before.
    op.execute(
        "UPDATE messages SET last_attempt = COALESCE("
        "(SELECT MAX(number) FROM message_attempts WHERE message_attempts.message_id = messages.id), 0)"
    )
    with op.batch_alter_table("messages") as batch:
        batch.alter_column("last_attempt", server_default=None)
        batch.alter_column("resent_from", server_default=None)
    op.create_index("ix_messages_store_id_status_id", "messages", ["store_id", "status", "id"])
    for name, (columns, where) in PARTIAL.items():
        op.create_index(name, "messages", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE messages SET (fillfactor = 70)")

    op.create_table(
        "message_blobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("piece", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_message_blobs_message_id_messages"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message_blobs")),
        sa.UniqueConstraint("message_id", "part", "piece", name=op.f("uq_message_blobs_message_id_part_piece")),
        sa.UniqueConstraint("uid", name=op.f("uq_message_blobs_uid")),
    )
    op.create_table(
        "lanes",
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("paused_until", sa.BigInteger(), nullable=True),
        sa.Column("pause_code", sa.String(length=80), nullable=False),
        sa.Column("pause_detail", sa.Text(), nullable=False),
        sa.Column("slow_until", sa.BigInteger(), nullable=True),
        sa.Column("slow_per_minute", sa.Integer(), nullable=True),
        sa.Column("slow_connections", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_lanes")),
    )
    op.create_table(
        "lane_slots",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lane_key", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("store_id", sa.Integer(), nullable=True),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_lane_slots_store_id_stores"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lane_slots")),
        sa.UniqueConstraint("lane_key", "number", name=op.f("uq_lane_slots_lane_key_number")),
    )
    op.create_table(
        "lane_permits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lane_key", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("stamped_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lane_permits")),
        sa.UniqueConstraint("lane_key", "number", name=op.f("uq_lane_permits_lane_key_number")),
    )
    op.create_index(op.f("ix_lane_permits_lane_key_stamped_at"), "lane_permits", ["lane_key", "stamped_at"])
    op.create_table(
        "lane_recipients",
        sa.Column("lane_key", sa.String(length=40), nullable=False),
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("lane_key", "hour", name=op.f("pk_lane_recipients")),
    )
    op.create_table(
        "worker_processes",
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_worker_processes")),
    )
    op.create_table(
        "store_nudges",
        sa.Column("store_id", sa.Integer(), nullable=False),
        sa.Column("is_pending", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_store_nudges_store_id_stores"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("store_id", name=op.f("pk_store_nudges")),
    )
    op.create_table(
        "api_usage",
        sa.Column("api_key_id", sa.Integer(), nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_api_usage_api_key_id_api_keys"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("api_key_id", "minute", name=op.f("pk_api_usage")),
    )


def downgrade():
    for table in (
        "api_usage",
        "store_nudges",
        "worker_processes",
        "lane_recipients",
        "lane_permits",
        "lane_slots",
        "lanes",
        "message_blobs",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE messages RESET (fillfactor)")
    for name in (*PARTIAL, "ix_messages_store_id_status_id"):
        op.drop_index(name, table_name="messages")
    with op.batch_alter_table("messages") as batch:
        batch.drop_column("resent_from")
        batch.drop_column("purged_at")
        batch.drop_column("last_attempt")
    op.create_index("ix_messages_status_due_at", "messages", ["status", "due_at"])
    op.create_index("ix_messages_store_id_status_ended_at", "messages", ["store_id", "status", "ended_at"])
    op.create_index(
        "ix_messages_store_id_status_priority_due_at", "messages", ["store_id", "status", "priority", "due_at"]
    )
    held = sa.text("status = 'held'")
    op.create_index("ix_messages_store_id_held", "messages", ["store_id"], sqlite_where=held, postgresql_where=held)
    with op.batch_alter_table("email_settings") as batch:
        batch.drop_column("on_uncertain")
