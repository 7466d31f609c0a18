"""What biometrics are encrypted for. Source: mosip/encryption.py."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "encryption_certificates",
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("domain_uri", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("der", sa.LargeBinary()),
        sa.Column("not_after", sa.BigInteger()),
        sa.Column("fetched_at", sa.BigInteger()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("env", "domain_uri"),
    )
