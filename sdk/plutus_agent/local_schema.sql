-- The books of local mode. Amounts are microunits (10^-6 USD), times milliseconds since the epoch, all whole numbers.
-- The names leave room for the tables of other programs in the same file.
CREATE TABLE IF NOT EXISTS meter_orgs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    slug TEXT NOT NULL,
    tier TEXT NOT NULL,
    balance INTEGER NOT NULL DEFAULT 0,
    funded INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS meter_workspaces (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES meter_orgs,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (org_id, name)
);
CREATE TABLE IF NOT EXISTS meter_events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL REFERENCES meter_orgs,
    workspace_id TEXT REFERENCES meter_workspaces,
    provider TEXT NOT NULL,
    model TEXT,
    task_type TEXT NOT NULL,
    source TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    external_ref TEXT,
    user_id TEXT,
    idempotency_key TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    UNIQUE (org_id, idempotency_key)
);
CREATE INDEX IF NOT EXISTS meter_events_by_time ON meter_events (org_id, recorded_at);
CREATE TABLE IF NOT EXISTS meter_entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL REFERENCES meter_orgs,
    event_id TEXT,
    amount INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    balance_after INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS meter_months (
    org_id TEXT NOT NULL REFERENCES meter_orgs,
    month TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    PRIMARY KEY (org_id, month)
);
