"""The outbox's tables. ``floors`` outlives everything that is emptied: a counter committed is never lowered (C8)."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox(
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, priority INTEGER NOT NULL, created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outbox_order ON outbox(priority, id);
CREATE TABLE IF NOT EXISTS commands(
    command_id TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT, verb TEXT NOT NULL, params TEXT NOT NULL,
    expires_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS windows(
    signer TEXT NOT NULL, topic TEXT NOT NULL, highest INTEGER NOT NULL, seen TEXT NOT NULL,
    expires_ms INTEGER NOT NULL, PRIMARY KEY(signer, topic)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS floors(
    name TEXT PRIMARY KEY, counter INTEGER NOT NULL, sha256 TEXT NOT NULL, version TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
