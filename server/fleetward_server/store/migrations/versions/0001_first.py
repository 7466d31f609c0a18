"""The first schema.

A revision is history: it is written out and never follows ``tables.py``. Source: S5.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    _devices()
    _beside()
    _keys()
    _numbers()
    _talk()
    _orders()
    _trust()
    op.execute("INSERT INTO meta (name, value) VALUES ('trust', 1), ('revocation', 1)")
    # Nobody edits the audit through this schema; the hash chain tells of those who go around it.
    for verb in ("UPDATE", "DELETE"):
        refusal = "BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END"
        op.execute(f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit {refusal}")


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _big(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def _bool(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _of_a_device() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["device_id"], ["devices.id"], initially="DEFERRED", deferrable=True)


def _devices() -> None:
    """The register of devices."""
    op.create_table(
        "devices",
        _text("id"),
        _text("state"),
        _text("certification"),
        _text("purpose"),
        _text("identity"),
        _text("serial"),
        _text("model"),
        _bool("listed"),
        _text("ftm_key", null=True),
        _text("asking_key", null=True),
        _text("approved_key", null=True),
        _number("enrolments"),
        _bool("reissue"),
        _text("digital_id", null=True),
        _text("previous_digital_id", null=True),
        _text("hello_digital_id", null=True),
        _text("hello_id", null=True),
        _text("session", null=True),
        _text("presence"),
        _big("presence_at", null=True),
        _text("agent_version", null=True),
        _text("reason", null=True),
        _text("checklist"),
        _text("tags"),
        _text("device_code", null=True),
        _text("device_info", null=True),
        _big("created_at", null=True),
        _big("changed_at", null=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("devices_by_serial", "devices", ["serial"])
    op.create_index("devices_by_state", "devices", ["state", "id"])
    op.create_index("devices_waiting", "devices", ["asking_key"], sqlite_where=sa.text("asking_key IS NOT NULL"))


def _beside() -> None:
    """What stands beside the register: the epochs, when a device was last heard, and whose FTM is whose."""
    op.create_table(
        "meta",
        _text("name"),
        _big("value"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "sightings",
        _text("device_id"),
        _big("seen_at"),
        _of_a_device(),
        sa.PrimaryKeyConstraint("device_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ftm_bindings",
        _text("key"),
        _text("device_id"),
        _of_a_device(),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("device_id", name="one_ftm_per_device"),
    )


def _keys() -> None:
    """What was certified."""
    op.create_table(
        "certificates",
        _text("thumbprint"),
        _text("device_id"),
        _text("use"),
        _text("state"),
        _text("serial"),
        _text("key_thumbprint"),
        _text("pair"),
        _big("not_before"),
        _big("not_after"),
        _bytes("der"),
        _bytes("authority"),
        _of_a_device(),
        sa.PrimaryKeyConstraint("thumbprint"),
        sa.UniqueConstraint("key_thumbprint", name="one_certificate_per_key"),
        sa.UniqueConstraint("serial", name="one_certificate_per_serial"),
    )
    op.create_index("certificates_by_device", "certificates", ["device_id"])


def _numbers() -> None:
    """What was asked of devices, and which numbers were taken."""
    op.create_table(
        "challenges",
        _text("principal"),
        _text("hello_id"),
        _text("device_nonce"),
        _text("server_nonce"),
        _text("signer_key"),
        _big("expires_at"),
        _text("used_device_key", null=True),
        _text("used_transport_key", null=True),
        sa.PrimaryKeyConstraint("principal", "hello_id"),
        sa.UniqueConstraint("principal", "server_nonce", name="one_challenge_per_nonce"),
    )
    op.create_index("challenges_by_end", "challenges", ["expires_at"])
    op.create_table(
        "windows",
        _text("signer"),
        _text("topic"),
        _big("highest"),
        _bytes("seen"),
        _big("expires_at"),
        sa.PrimaryKeyConstraint("signer", "topic"),
        sqlite_with_rowid=False,
    )
    op.create_index("windows_by_end", "windows", ["expires_at"])


def _talk() -> None:
    """What devices said."""
    op.create_table(
        "reports",
        _number("number"),
        _text("device_id"),
        _text("id"),
        _text("kind"),
        _big("at"),
        _big("received_at"),
        _text("body"),
        _of_a_device(),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("device_id", "id", name="one_report_per_id"),
    )
    op.create_index("reports_by_age", "reports", ["kind", "received_at"])


def _orders() -> None:
    """What devices were told, and what of theirs was refused."""
    op.create_table(
        "commands",
        _text("id"),
        _text("device_id"),
        _text("verb"),
        _text("params"),
        _text("step"),
        _text("actor"),
        _text("reason"),
        _big("created_at"),
        _big("expires_at"),
        _big("sent_at", null=True),
        _big("changed_at", null=True),
        _text("last_reason", null=True),
        _of_a_device(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("commands_by_device", "commands", ["device_id", "id"])
    op.create_index("commands_by_step", "commands", ["step", "expires_at"])
    op.create_table(
        "refusals",
        _text("principal"),
        _text("code"),
        _number("count"),
        _big("last_at"),
        sa.PrimaryKeyConstraint("principal", "code"),
    )


def _trust() -> None:
    """What an operator trusts, and what everybody did."""
    op.create_table(
        "models",
        _text("provider_id"),
        _text("make"),
        _text("model"),
        _text("type"),
        _text("sub_type"),
        _bool("approved"),
        sa.PrimaryKeyConstraint("provider_id", "make", "model", "type", "sub_type"),
    )
    op.create_table(
        "ftm_roots",
        _text("thumbprint"),
        _text("name"),
        _bytes("der"),
        _bool("trusted"),
        sa.PrimaryKeyConstraint("thumbprint"),
    )
    op.create_table(
        "audit",
        _number("seq"),
        _big("at"),
        _text("actor"),
        _text("action"),
        _text("subject"),
        _text("reason"),
        _text("detail"),
        _text("prev_hash"),
        _text("hash"),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_subject", "audit", ["subject", "seq"])
