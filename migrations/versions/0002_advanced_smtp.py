"""Advanced SMTP: connections, custom fields, Connect and test runs; existing stores stay on SMTP.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "connections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("tenant_id", sa.String(length=253), nullable=False),
        sa.Column("grant_type", sa.String(length=32), nullable=False),
        sa.Column("authorization_url", sa.String(length=2048), nullable=False),
        sa.Column("token_url", sa.String(length=2048), nullable=False),
        sa.Column("scope", sa.String(length=2048), nullable=False),
        sa.Column("login", sa.String(length=320), nullable=False),
        sa.Column("token_parameters_sealed", sa.Text(), nullable=True),
        sa.Column("client_secret_sealed", sa.Text(), nullable=True),
        sa.Column("client_secret_set_at", sa.BigInteger(), nullable=True),
        sa.Column("client_secret_set_by", sa.String(length=320), nullable=False),
        sa.Column("client_secret_expires_on", sa.Date(), nullable=True),
        sa.Column("refresh_token_sealed", sa.Text(), nullable=True),
        sa.Column("refresh_token_set_at", sa.BigInteger(), nullable=True),
        sa.Column("refresh_token_set_by", sa.String(length=320), nullable=False),
        sa.Column("refresh_token_source", sa.String(length=32), nullable=True),
        sa.Column("access_token_sealed", sa.Text(), nullable=True),
        sa.Column("access_token_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("refreshed_at", sa.BigInteger(), nullable=True),
        sa.Column("granted_scope", sa.String(length=2048), nullable=False),
        sa.Column("account", sa.String(length=320), nullable=False),
        sa.Column("account_tenant", sa.String(length=253), nullable=False),
        sa.Column("connected_at", sa.BigInteger(), nullable=True),
        sa.Column("connected_by", sa.String(length=320), nullable=False),
        sa.Column("health", sa.String(length=32), nullable=False),
        sa.Column("health_since", sa.BigInteger(), nullable=True),
        sa.Column("health_code", sa.String(length=80), nullable=False),
        sa.Column("health_detail", sa.Text(), nullable=False),
        sa.Column("refresh_lease", sa.String(length=32), nullable=True),
        sa.Column("refresh_lease_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint("uid", name=op.f("uq_connections_uid")),
    )
    op.create_table(
        "authorization_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("state_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("session_hash", sa.String(length=64), nullable=False),
        sa.Column("store_id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("settings_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("redirect_uri", sa.String(length=2048), nullable=False),
        sa.Column("expected_issuer", sa.String(length=2048), nullable=False),
        sa.Column("token_url", sa.String(length=2048), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.String(length=2048), nullable=False),
        sa.Column("verifier_sealed", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_authorization_requests_store_id_stores"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_authorization_requests_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorization_requests")),
        sa.UniqueConstraint("state_hash", name=op.f("uq_authorization_requests_state_hash")),
        sa.UniqueConstraint("uid", name=op.f("uq_authorization_requests_uid")),
    )
    op.create_index(
        op.f("ix_authorization_requests_expires_at"), "authorization_requests", ["expires_at"], unique=False
    )
    op.create_index(op.f("ix_authorization_requests_store_id"), "authorization_requests", ["store_id"], unique=False)
    op.create_table(
        "test_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("store_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("recipient", sa.String(length=320), nullable=False),
        sa.Column("tests_unsaved", sa.Boolean(), nullable=False),
        sa.Column("settings_sealed", sa.Text(), nullable=True),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("failure", sa.JSON(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name=op.f("fk_test_runs_store_id_stores"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_test_runs_user_id_users"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_runs")),
        sa.UniqueConstraint("uid", name=op.f("uq_test_runs_uid")),
    )
    op.create_index("ix_test_runs_store_id_started_at", "test_runs", ["store_id", "started_at"], unique=False)
    op.create_table(
        "custom_fields",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("email_settings_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=150), nullable=False),
        sa.Column("value_sealed", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["email_settings_id"],
            ["email_settings.id"],
            name=op.f("fk_custom_fields_email_settings_id_email_settings"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_custom_fields")),
        sa.UniqueConstraint("email_settings_id", "position", name=op.f("uq_custom_fields_email_settings_id_position")),
        sa.UniqueConstraint("uid", name=op.f("uq_custom_fields_uid")),
    )
    with op.batch_alter_table("email_settings") as batch:
        # Stores that exist stay on SMTP, with everything they have; only new ones start on Advanced SMTP.
        batch.add_column(sa.Column("method", sa.String(length=32), nullable=False, server_default="smtp"))
        batch.add_column(sa.Column("advanced_smtp_host", sa.String(length=253), nullable=False, server_default=""))
        batch.add_column(sa.Column("advanced_smtp_port", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("connection_id", sa.Integer(), nullable=True))
    with op.batch_alter_table("email_settings") as batch:
        # From here on a row must say its method.
        batch.alter_column("method", server_default=None, existing_type=sa.String(length=32), existing_nullable=False)
        batch.alter_column(
            "advanced_smtp_host", server_default=None, existing_type=sa.String(length=253), existing_nullable=False
        )
        batch.create_foreign_key(
            "fk_email_settings_connection_id_connections", "connections", ["connection_id"], ["id"], ondelete="SET NULL"
        )
        batch.create_index("ix_email_settings_connection_id", ["connection_id"])


def downgrade():
    with op.batch_alter_table("email_settings") as batch:
        batch.drop_constraint("fk_email_settings_connection_id_connections", type_="foreignkey")
        batch.drop_index("ix_email_settings_connection_id")
        batch.drop_column("connection_id")
        batch.drop_column("advanced_smtp_port")
        batch.drop_column("advanced_smtp_host")
        batch.drop_column("method")
    op.drop_table("custom_fields")
    op.drop_index("ix_test_runs_store_id_started_at", table_name="test_runs")
    op.drop_table("test_runs")
    op.drop_index(op.f("ix_authorization_requests_store_id"), table_name="authorization_requests")
    op.drop_index(op.f("ix_authorization_requests_expires_at"), table_name="authorization_requests")
    op.drop_table("authorization_requests")
    op.drop_table("connections")
