-- name: lock_shards
-- Ascending, so that no two writers of several shards wait for each other in a ring.
SELECT shard, epoch, state, posted_seq, due_seq, chain_seq, chain_head
FROM shards WHERE shard = ANY($1::smallint[]) ORDER BY shard FOR UPDATE;

-- name: read_shards
SELECT shard, epoch, state, posted_seq, due_seq, chain_seq, chain_head FROM shards ORDER BY shard;

-- name: update_shards
UPDATE shards SET posted_seq = new.posted_seq, due_seq = new.due_seq, chain_seq = new.chain_seq, chain_head = new.chain_head
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) AS new (shard, posted_seq, due_seq, chain_seq, chain_head)
WHERE shards.shard = new.shard;

-- name: begin_rebuild
UPDATE shards SET state = 'rebuilding', epoch = $2 WHERE shard = $1;

-- name: finish_rebuild
UPDATE shards SET state = 'open' WHERE shard = $1 AND epoch = $2 AND state = 'rebuilding';

-- name: ensure_months
SELECT ensure_month(moment) FROM unnest($1::timestamptz[]) AS moment;

-- name: known_keys
SELECT key_sha256, body_sha256, shard, seq FROM journal_keys WHERE key_sha256 = ANY($1::bytea[]);

-- name: journal_by_key
SELECT journal.key, journal.shard, journal.seq, journal.settled_at, journal.account_id, journal.kind, journal.detail, keys.body_sha256
FROM journal_keys AS keys JOIN journal ON journal.shard = keys.shard AND journal.seq = keys.seq
WHERE keys.key_sha256 = ANY($1::bytea[]);

-- name: account_figures
SELECT id, balance, n, statement_balance, charged, active_at FROM accounts WHERE id = ANY($1::bigint[]);

-- name: update_accounts
UPDATE accounts SET balance = new.balance, n = new.n, statement_balance = new.statement_balance, charged = new.charged, active_at = new.active_at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[])
    AS new (id, balance, n, statement_balance, charged, active_at)
WHERE accounts.id = new.id;

-- name: add_house_balances
INSERT INTO house_balances (shard, account, balance)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::bigint[])
ON CONFLICT (shard, account) DO UPDATE SET balance = house_balances.balance + excluded.balance;

-- name: add_rollups
INSERT INTO rollups_hourly (
    shard, account_id, hour, provider, model, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost)
SELECT * FROM unnest(
    $1::smallint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
    $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
ON CONFLICT (shard, account_id, hour, provider, model) DO UPDATE SET
    requests = rollups_hourly.requests + excluded.requests,
    input_tokens = rollups_hourly.input_tokens + excluded.input_tokens,
    output_tokens = rollups_hourly.output_tokens + excluded.output_tokens,
    cache_write_tokens = rollups_hourly.cache_write_tokens + excluded.cache_write_tokens,
    cache_read_tokens = rollups_hourly.cache_read_tokens + excluded.cache_read_tokens,
    amount = rollups_hourly.amount + excluded.amount,
    provider_cost = rollups_hourly.provider_cost + excluded.provider_cost;

-- name: supersede_usage
UPDATE usage_events SET superseded = true
FROM unnest($1::text[], $2::bigint[]) AS adjusted (request_id, seq)
WHERE usage_events.request_id = adjusted.request_id AND usage_events.seq < adjusted.seq AND NOT superseded;

-- name: insert_due
INSERT INTO changes_due (shard, due_seq, account_id, key, amount, fields, detail, journal_seq, created_at)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9);

-- name: dues_by_key
SELECT shard, due_seq, account_id, key, amount, detail, journal_seq, created_at, applied_epoch
FROM changes_due WHERE shard = ANY($1::smallint[]) AND key = ANY($2::text[]);

-- name: dues_not_applied
SELECT shard, due_seq, account_id, key, amount, detail, journal_seq, created_at, applied_epoch
FROM changes_due WHERE shard = $1 AND due_seq <= $2 AND applied_epoch IS NULL ORDER BY due_seq;

-- name: dues_after
SELECT due_seq, account_id, key, amount, fields, detail FROM changes_due WHERE shard = $1 AND due_seq > $2 ORDER BY due_seq LIMIT $3;

-- name: mark_dues
UPDATE changes_due SET n = applied.n, applied_epoch = applied.epoch
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS applied (shard, due_seq, n, epoch)
WHERE changes_due.shard = applied.shard AND changes_due.due_seq = applied.due_seq;

-- name: next_account_id
SELECT nextval('accounts_id_seq');

-- name: insert_account
INSERT INTO accounts (id, public_id, shard, name, tier, deposit_code, created_at, active_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7);

-- name: reserve_account_ids
-- After an account was created again from the outbox: its id must not be given to another one. Only ever forward,
-- so that an account created meanwhile keeps its own.
SELECT count(nextval('accounts_id_seq')) FROM accounts_id_seq, generate_series(1, greatest(0, $1 - accounts_id_seq.last_value)) AS step;

-- name: insert_token
INSERT INTO tokens (token_id, account_id, digest, name, created_at) VALUES ($1, $2, $3, $4, $5);

-- name: revoke_token
UPDATE tokens SET revoked_at = coalesce(revoked_at, $2) WHERE token_id = $1;

-- name: set_status
UPDATE accounts SET status = $2 WHERE id = $1;

-- name: set_line
UPDATE accounts SET line = $2 WHERE id = $1;

-- name: account_by_id
SELECT * FROM accounts WHERE id = $1;

-- name: account_by_deposit_code
SELECT * FROM accounts WHERE deposit_code = $1;

-- name: account_by_public_id
SELECT * FROM accounts WHERE public_id = $1;

-- name: account_by_token
SELECT accounts.* FROM accounts JOIN tokens ON tokens.account_id = accounts.id WHERE tokens.digest = $1;

-- name: list_accounts
SELECT * FROM accounts WHERE id > $1 ORDER BY id LIMIT $2;

-- name: token_by_id
SELECT tokens.*, accounts.shard FROM tokens JOIN accounts ON accounts.id = tokens.account_id WHERE token_id = $1;

-- name: list_tokens
SELECT token_id, account_id, digest, name, created_at, revoked_at FROM tokens WHERE account_id = $1 ORDER BY created_at, token_id;

-- name: rebuild_accounts
-- Recently active accounts first, so that what is running finds its balance soonest.
SELECT id, balance, n, statement_balance, charged, status, line FROM accounts WHERE shard = $1 ORDER BY active_at DESC, id;

-- name: rebuild_tokens
SELECT tokens.account_id, tokens.digest, tokens.revoked_at IS NOT NULL AS revoked
FROM tokens JOIN accounts ON accounts.id = tokens.account_id WHERE accounts.shard = $1;

-- name: shards_by_activity
SELECT shard FROM accounts GROUP BY shard ORDER BY max(active_at) DESC;

-- name: insert_rate_card
INSERT INTO rate_cards (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING;

-- name: read_rate_card
SELECT body FROM rate_cards WHERE hash = $1;

-- name: insert_audit
INSERT INTO audit (actor, action, detail) VALUES ($1, $2, $3::jsonb);

-- name: read_instance
SELECT instance_id, mode, genesis FROM instance;

-- name: insert_instance
INSERT INTO instance (instance_id, mode, genesis) VALUES ($1, $2, $3) ON CONFLICT (single) DO NOTHING;

-- name: open_fresh_shards
INSERT INTO shards (shard) SELECT generate_series(0, 64) ON CONFLICT (shard) DO NOTHING;

-- name: posted_position
SELECT posted_seq, epoch FROM shards WHERE shard = $1;

-- name: ensure_months_ahead
SELECT ensure_month(now() + make_interval(months => ahead)) FROM generate_series(0, 3) AS ahead;

-- name: statement_descending
SELECT n AS id, type, amount AS usdc_amount, balance_after, request_id, provider, model, input_tokens, output_tokens,
    cache_write_tokens, cache_read_tokens, estimated, created_at
FROM statement
WHERE account_id = $1 AND ($2::bigint IS NULL OR n < $2) AND ($3::text[] IS NULL OR type = ANY($3)) AND ($4::text IS NULL OR model = $4)
    AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6)
ORDER BY n DESC LIMIT $7 OFFSET $8;

-- name: statement_ascending
SELECT n AS id, type, amount AS usdc_amount, balance_after, request_id, provider, model, input_tokens, output_tokens,
    cache_write_tokens, cache_read_tokens, estimated, created_at
FROM statement
WHERE account_id = $1 AND ($2::bigint IS NULL OR n < $2) AND ($3::text[] IS NULL OR type = ANY($3)) AND ($4::text IS NULL OR model = $4)
    AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6)
ORDER BY n LIMIT $7 OFFSET $8;

-- name: audit_position
SELECT chain_seq, chain_head FROM shards WHERE shard = $1;

-- name: audit_rows
SELECT shard, seq, settled_at, occurred_at, kind, key, account_id, accounts, amounts, numerator, rate_card, detail, hash
FROM journal WHERE shard = $1 AND seq > $2 ORDER BY seq;

-- name: audit_keys
SELECT journal.seq, journal.key
FROM journal LEFT JOIN journal_keys AS keys
    ON keys.key_sha256 = sha256(convert_to(journal.key, 'UTF8')) AND keys.shard = journal.shard AND keys.seq = journal.seq
WHERE journal.shard = $1 AND keys.seq IS NULL ORDER BY journal.seq LIMIT $2;

-- name: audit_accounts
SELECT id, balance FROM accounts WHERE shard = $1;

-- name: audit_house
SELECT account, balance FROM house_balances WHERE shard = $1;

-- name: audit_lines
SELECT account_id, n, before FROM (
    SELECT statement.account_id, statement.n, statement.amount, statement.balance_after,
        coalesce(lag(statement.n) OVER lines, 0) AS before, coalesce(lag(statement.balance_after) OVER lines, 0) AS balance_before
    FROM statement JOIN accounts ON accounts.id = statement.account_id
    WHERE accounts.shard = $1
    WINDOW lines AS (PARTITION BY statement.account_id ORDER BY statement.n)
) AS line
WHERE n <> before + 1 OR balance_after <> balance_before + amount ORDER BY account_id, n LIMIT $2;

-- name: audit_ends
SELECT * FROM (
    SELECT accounts.id, accounts.n, accounts.balance, accounts.statement_balance, coalesce(line.n, 0) AS last, coalesce(line.balance_after, 0) AS balance_after,
        coalesce((SELECT sum(amount) FROM changes_due WHERE shard = $1 AND applied_epoch IS NULL AND account_id = accounts.id), 0) AS due
    FROM accounts LEFT JOIN LATERAL (
        SELECT n, balance_after FROM statement WHERE account_id = accounts.id ORDER BY n DESC LIMIT 1) AS line ON true
    WHERE accounts.shard = $1
) AS ends
WHERE n <> last OR statement_balance <> balance_after OR balance <> statement_balance + due ORDER BY id LIMIT $2;

-- name: audit_sums
SELECT (SELECT coalesce(sum(balance), 0) FROM accounts) AS customers, (SELECT coalesce(sum(balance), 0) FROM house_balances) AS house,
    (SELECT coalesce(sum(balance), 0) FROM house_balances WHERE account = 'vault:usdc') AS vault;

-- name: accounts_of_shards
SELECT id, shard FROM accounts ORDER BY id;

-- name: recent_accounts
SELECT id, shard FROM accounts WHERE active_at > now() - make_interval(secs => $1) ORDER BY active_at DESC LIMIT $2;

-- name: lines_at
SELECT statement.account_id, statement.balance_after
FROM unnest($1::bigint[], $2::bigint[]) AS wanted (account_id, n)
JOIN statement ON statement.account_id = wanted.account_id AND statement.n = wanted.n;

-- name: not_opened_yet
SELECT account_id FROM changes_due WHERE shard = $1 AND applied_epoch IS NULL AND key LIKE 'open:%';

-- name: row_hash
SELECT hash FROM journal WHERE shard = $1 AND seq = $2;
