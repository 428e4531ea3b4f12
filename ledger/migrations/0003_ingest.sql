-- Usage that others report: keys, workspaces, months, claims of idempotency keys, and what an event says beyond its tokens.

ALTER TABLE accounts ADD COLUMN funded boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN accounts.funded IS 'the account once had money: reported usage then stops at a balance of nothing';
UPDATE accounts SET funded = true WHERE EXISTS (
    SELECT FROM changes_due WHERE changes_due.account_id = accounts.id AND amount > 0 AND (key LIKE 'credit:%' OR key LIKE 'deposit:%'));

CREATE TABLE ingest_keys (
    key_id       text PRIMARY KEY,
    account_id   bigint NOT NULL REFERENCES accounts (id),
    digest       text NOT NULL UNIQUE,
    name         text,
    prefix       text NOT NULL,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
) WITH (fillfactor = 70);
CREATE INDEX ingest_keys_by_account ON ingest_keys (account_id);

CREATE TABLE workspaces (
    id         text PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts (id),
    name       text NOT NULL,
    slug       text NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (account_id, slug)
);

-- What an account has reported in a month (UTC, by arrival): the figure runs with the journal.
CREATE TABLE usage_months (
    account_id bigint NOT NULL REFERENCES accounts (id),
    month      integer NOT NULL CHECK (month BETWEEN 197001 AND 999912),
    tokens     bigint NOT NULL,
    events     bigint NOT NULL,
    amount     bigint NOT NULL,
    PRIMARY KEY (account_id, month)
) WITH (fillfactor = 50);
COMMENT ON COLUMN usage_months.tokens IS 'stays at 2^53 - 1 once it gets there, as Redis has it';

-- Idempotency keys of clients: who has taken one, for what, and the first answer once there is one.
CREATE TABLE ingest_claims (
    account_id  bigint NOT NULL,
    key_sha256  bytea NOT NULL CHECK (octet_length(key_sha256) = 32),
    body_sha256 bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    request_id  text NOT NULL,
    line        smallint NOT NULL,
    taken_at    timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    answer      text,
    PRIMARY KEY (account_id, key_sha256)
) WITH (fillfactor = 70);
CREATE INDEX ingest_claims_by_age ON ingest_claims USING brin (created_at) WITH (pages_per_range = 16);
COMMENT ON COLUMN ingest_claims.request_id IS 'under which the request was, or is being, recorded: the journal knows it as usage:<request_id>';
COMMENT ON COLUMN ingest_claims.line IS 'the event that the key is of, -1 where it is the whole request''s';

-- An event's id is made of its request's and its line. Counts that only reports have stay null on what the gateway metered.
ALTER TABLE usage_events
    ADD COLUMN reasoning_tokens bigint,
    ADD COLUMN task_type text,
    ADD COLUMN source text,
    ADD COLUMN workspace_id text,
    ADD COLUMN external_ref text,
    ADD COLUMN user_id text,
    ADD COLUMN unpriced boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN usage_events.operation IS 'what was asked of the gateway; "reported" where it only heard of it: then output has no reasoning in it, and each line its own amount';

-- Reported usage is no debt to a provider and no revenue, so its figures are kept apart.
ALTER TABLE rollups_hourly ADD COLUMN reported boolean NOT NULL DEFAULT false;
ALTER TABLE rollups_hourly DROP CONSTRAINT rollups_hourly_pkey;
ALTER TABLE rollups_hourly ADD PRIMARY KEY (shard, account_id, hour, provider, model, reported);

-- Redis learns of tiers, organisations and former money by a rebuild of the shards that have accounts.
UPDATE shards SET state = 'rebuilding' WHERE shard IN (SELECT shard FROM accounts);
