-- name: set_tier
UPDATE accounts SET tier = $2 WHERE id = $1;

-- name: set_funded
UPDATE accounts SET funded = true WHERE id = $1 AND NOT funded;

-- name: insert_key
INSERT INTO ingest_keys (key_id, account_id, digest, name, prefix, created_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: revoke_key
UPDATE ingest_keys SET revoked_at = coalesce(revoked_at, $2) WHERE key_id = $1;

-- name: count_keys
SELECT count(*) FROM ingest_keys WHERE account_id = $1 AND revoked_at IS NULL;

-- name: list_keys
SELECT key_id, account_id, name, prefix, created_at, last_used_at, revoked_at FROM ingest_keys WHERE account_id = $1 ORDER BY created_at, key_id;

-- name: recent_keys
SELECT key_id, account_id, name, prefix, created_at, last_used_at, revoked_at FROM ingest_keys
WHERE account_id = $1 ORDER BY revoked_at DESC NULLS FIRST, created_at, key_id LIMIT $2;

-- name: find_key
SELECT key_id, account_id, name, prefix, created_at, last_used_at, revoked_at FROM ingest_keys WHERE key_id = $1;

-- name: key_to_revoke
SELECT ingest_keys.account_id, ingest_keys.digest, ingest_keys.revoked_at, accounts.shard
FROM ingest_keys JOIN accounts ON accounts.id = ingest_keys.account_id WHERE key_id = $1;

-- name: use_keys
UPDATE ingest_keys SET last_used_at = used.at FROM unnest($1::text[], $2::timestamptz[]) AS used (key_id, at)
WHERE ingest_keys.key_id = used.key_id AND (last_used_at IS NULL OR last_used_at < used.at);

-- name: rebuild_keys
SELECT ingest_keys.account_id, ingest_keys.digest, ingest_keys.key_id
FROM ingest_keys JOIN accounts ON accounts.id = ingest_keys.account_id WHERE accounts.shard = $1 AND revoked_at IS NULL;

-- name: rebuild_months
-- The latest month of each account: no other one counts any more.
SELECT DISTINCT ON (usage_months.account_id) usage_months.account_id, month, tokens
FROM usage_months JOIN accounts ON accounts.id = usage_months.account_id WHERE accounts.shard = $1
ORDER BY usage_months.account_id, month DESC;

-- name: insert_workspace
INSERT INTO workspaces (id, account_id, name, slug, created_at) VALUES ($1, $2, $3, $4, $5);

-- name: find_workspace
SELECT id, name, slug FROM workspaces WHERE account_id = $1 AND (id = $2 OR slug = $3) ORDER BY id <> $2 LIMIT 1;

-- name: list_workspaces
SELECT id, name, slug FROM workspaces WHERE account_id = $1 ORDER BY created_at, id;

-- name: set_budget
UPDATE workspaces SET budget = $3 WHERE id = $1 AND account_id = $2;

-- name: has_workspace
SELECT EXISTS (SELECT FROM workspaces WHERE id = $1 AND account_id = $2);

-- name: workspaces_with_use
-- In the order in which they were made, each with what it used since the month began.
SELECT workspaces.id, name, slug, budget, created_at, coalesce(used.requests, 0) AS events, coalesce(used.tokens, 0)::numeric(38, 0) AS tokens,
    coalesce(used.amount, 0)::bigint AS spent
FROM workspaces LEFT JOIN (
    SELECT workspace_id, sum(requests)::bigint AS requests,
        sum(input_tokens::numeric + output_tokens + cache_write_tokens + cache_read_tokens) AS tokens, sum(amount) AS amount
    FROM work_hourly WHERE shard = $2 AND account_id = $1 AND hour >= $3 GROUP BY workspace_id
) AS used ON used.workspace_id = workspaces.id
WHERE workspaces.account_id = $1 ORDER BY workspaces.created_at, workspaces.id LIMIT $4 OFFSET $5;

-- name: budgets_nearly_used
-- Those of all accounts whose workspace has come to $2 percent of its budget since the month began.
SELECT workspaces.id, workspaces.budget, sum(work_hourly.amount)::bigint AS spent
FROM workspaces JOIN accounts ON accounts.id = workspaces.account_id
JOIN work_hourly ON work_hourly.shard = accounts.shard AND work_hourly.account_id = accounts.id
    AND work_hourly.hour >= $1 AND work_hourly.workspace_id = workspaces.id
WHERE workspaces.budget IS NOT NULL
GROUP BY workspaces.id, workspaces.budget HAVING sum(work_hourly.amount) * 100 >= workspaces.budget::numeric * $2
ORDER BY workspaces.id LIMIT $3;

-- name: account_tier
SELECT tier, public_id FROM accounts WHERE id = $1;

-- name: add_months
INSERT INTO usage_months (account_id, month, tokens, events, amount)
SELECT account_id, month, least(tokens, 9007199254740991), events, amount
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[]) AS new (account_id, month, tokens, events, amount)
ON CONFLICT (account_id, month) DO UPDATE SET
    tokens = least(usage_months.tokens + excluded.tokens, 9007199254740991),
    events = usage_months.events + excluded.events,
    amount = usage_months.amount + excluded.amount;

-- name: read_claims
SELECT key_sha256, body_sha256, request_id, line, answer, taken_at > now() - make_interval(secs => $3) AS in_flight
FROM ingest_claims WHERE account_id = $1 AND key_sha256 = ANY($2::bytea[]);

-- name: take_claims
-- Only where the journal has all that the shard knows it to have: a restored one has lost claims, and gets them back from the outbox.
INSERT INTO ingest_claims (account_id, key_sha256, body_sha256, request_id, line, taken_at, created_at)
SELECT $1, key_sha256, body_sha256, $2, line, now(), now()
FROM unnest($3::bytea[], $4::bytea[], $5::smallint[]) AS new (key_sha256, body_sha256, line)
WHERE EXISTS (SELECT FROM shards WHERE shard = $6 AND state = 'open' AND epoch = $7 AND posted_seq >= $8 AND due_seq >= $9)
ORDER BY key_sha256
ON CONFLICT (account_id, key_sha256) DO NOTHING RETURNING key_sha256;

-- name: is_current
SELECT EXISTS (SELECT FROM shards WHERE shard = $1 AND state = 'open' AND epoch = $2 AND posted_seq >= $3 AND due_seq >= $4);

-- name: take_over_claims
-- Only from the one whose request is known to be over: whoever else took it over meanwhile has it.
UPDATE ingest_claims SET request_id = $2, line = taken.line, taken_at = now()
FROM unnest($3::bytea[], $4::text[], $5::smallint[]) AS taken (key_sha256, request_id, line)
WHERE ingest_claims.account_id = $1 AND ingest_claims.key_sha256 = taken.key_sha256 AND ingest_claims.request_id = taken.request_id AND answer IS NULL
RETURNING ingest_claims.key_sha256;

-- name: answer_claims
UPDATE ingest_claims SET answer = given.answer FROM unnest($3::bytea[], $4::text[]) AS given (key_sha256, answer)
WHERE ingest_claims.account_id = $1 AND ingest_claims.key_sha256 = given.key_sha256 AND ingest_claims.request_id = $2 AND ingest_claims.answer IS NULL;

-- name: release_claims
DELETE FROM ingest_claims WHERE account_id = $1 AND request_id = $2 AND key_sha256 = ANY($3::bytea[]) AND answer IS NULL;

-- name: restore_claims
-- A restored journal has lost them, or knows them as they were before this request took them over; else they are there.
INSERT INTO ingest_claims (account_id, key_sha256, body_sha256, request_id, line, taken_at, created_at)
SELECT account_id, key_sha256, body_sha256, request_id, line, to_timestamp(0), at
FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::text[], $5::smallint[], $6::timestamptz[])
    AS old (account_id, key_sha256, body_sha256, request_id, line, at)
ORDER BY account_id, key_sha256
ON CONFLICT (account_id, key_sha256) DO UPDATE SET
    request_id = excluded.request_id, body_sha256 = excluded.body_sha256, line = excluded.line, taken_at = excluded.taken_at
WHERE ingest_claims.answer IS NULL AND ingest_claims.request_id <> excluded.request_id;

-- name: forget_claims
DELETE FROM ingest_claims WHERE created_at < now() - make_interval(days => $1);

-- name: usage_at
-- A request and how far the journal is, at one instant.
SELECT shards.epoch, shards.posted_seq, journal.detail
FROM shards LEFT JOIN journal_keys AS keys ON keys.key_sha256 = $2 LEFT JOIN journal ON journal.shard = keys.shard AND journal.seq = keys.seq
WHERE shards.shard = $1;

-- name: export_usage
SELECT usage_events.seq, usage_events.line, usage_events.request_id, provider, model, operation, input_tokens, output_tokens, reasoning_tokens,
    cache_write_5m_tokens, cache_write_1h_tokens, cache_read_tokens, usage_events.amount, estimated, unpriced, task_type, source, external_ref, user_id,
    occurred_at, settled_at, workspaces.name AS workspace, workspace_id
FROM usage_events LEFT JOIN workspaces ON workspaces.id = workspace_id
WHERE usage_events.account_id = $1 AND settled_at >= $2 AND settled_at < $3 AND NOT superseded
    AND (settled_at, usage_events.seq, usage_events.line) > ($4, $5, $6)
ORDER BY settled_at, usage_events.seq, usage_events.line LIMIT $7;

-- name: audit_usage
-- What the events of each reported request come to, in the order of the journal.
SELECT seq, count(*) AS events, sum(usage_events.amount) AS amount,
    sum(input_tokens + output_tokens + reasoning_tokens + cache_write_5m_tokens + coalesce(cache_write_1h_tokens, 0) + cache_read_tokens) AS tokens
FROM usage_events JOIN accounts ON accounts.id = usage_events.account_id
WHERE accounts.shard = $1 AND operation = 'reported' GROUP BY seq ORDER BY seq;

-- name: audit_months
SELECT usage_months.account_id, month, tokens, events, amount
FROM usage_months JOIN accounts ON accounts.id = usage_months.account_id WHERE accounts.shard = $1;

-- name: months_of
SELECT account_id, month, tokens FROM usage_months WHERE account_id = ANY($1::bigint[]);
