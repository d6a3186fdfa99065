"""What is held has a small index of its own: it is looked for whenever a store hands in mail.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade():
    where = sa.text("status = 'held'")
    op.create_index(
        "ix_messages_held", "messages", ["store_id", "id"], sqlite_where=where, postgresql_where=where
    )


def downgrade():
    op.drop_index("ix_messages_held", table_name="messages")
