"""MOSIP's tables: what it is told, and what it gives. Source: mosip/queue.py, mosip/encryption.py."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from fleetward_server.store.tables import META

mosip_tasks = Table(
    "mosip_tasks",
    META,
    Column("number", Integer, primary_key=True),
    Column("device_id", Text, ForeignKey("devices.id", deferrable=True, initially="DEFERRED"), nullable=False),
    Column("profile", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("asked", Text),
    Column("code", Text),
    Column("detail", Text),
    Column("device_code", Text),
)
# Two open tasks of one device could be done in the wrong order.
_OPEN_TASK = text("state IN ('waiting', 'asking')")
Index("one_open_mosip_task", mosip_tasks.c.device_id, unique=True, sqlite_where=_OPEN_TASK)
Index("mosip_tasks_by_device", mosip_tasks.c.device_id, mosip_tasks.c.number)
Index("mosip_tasks_due", mosip_tasks.c.state, mosip_tasks.c.next_at)

encryption_certificates = Table(
    "encryption_certificates",
    META,
    Column("env", Text, nullable=False),
    Column("domain_uri", Text, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("source", Text),
    Column("der", LargeBinary),
    Column("not_after", BigInteger),
    Column("fetched_at", BigInteger),
    Column("failures", Integer, nullable=False),
    Column("code", Text),
    Column("detail", Text),
    PrimaryKeyConstraint("env", "domain_uri"),
)
