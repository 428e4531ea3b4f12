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
INSERT INTO tokens (token_id, account_id, digest, name, created_at, scope, hint) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: revoke_token
UPDATE tokens SET revoked_at = coalesce(revoked_at, $2) WHERE token_id = $1;

-- name: set_status
UPDATE accounts SET status = $2 WHERE id = $1;

-- name: set_line
UPDATE accounts SET line = $2 WHERE id = $1;

-- name: account_by_id
SELECT * FROM accounts WHERE id = $1;

-- name: public_id_of
SELECT public_id FROM accounts WHERE id = $1;

-- name: account_by_deposit_code
SELECT * FROM accounts WHERE deposit_code = $1;

-- name: account_by_public_id
SELECT * FROM accounts WHERE public_id = $1;

-- name: account_by_token
SELECT accounts.* FROM accounts JOIN tokens ON tokens.account_id = accounts.id WHERE tokens.digest = $1;

-- name: accounts_by_name
SELECT public_id FROM accounts WHERE name = $1 AND status <> 'closed' ORDER BY id LIMIT 2;

-- name: list_accounts
SELECT * FROM accounts WHERE id > $1 ORDER BY id LIMIT $2;

-- name: token_by_id
SELECT tokens.*, accounts.shard FROM tokens JOIN accounts ON accounts.id = tokens.account_id WHERE token_id = $1;

-- name: count_tokens
SELECT count(*) FROM tokens WHERE account_id = $1 AND revoked_at IS NULL;

-- name: has_other_token
SELECT EXISTS (SELECT FROM tokens WHERE account_id = $1 AND token_id <> $2 AND scope = 'full' AND revoked_at IS NULL);

-- name: list_tokens
SELECT token_id, account_id, digest, name, scope, hint, created_at, revoked_at FROM tokens WHERE account_id = $1 ORDER BY created_at, token_id;

-- name: recent_tokens
SELECT token_id, account_id, digest, name, scope, hint, created_at, revoked_at FROM tokens
WHERE account_id = $1 ORDER BY revoked_at DESC NULLS FIRST, created_at, token_id LIMIT $2;

-- name: find_token
SELECT token_id, account_id, digest, name, scope, hint, created_at, revoked_at FROM tokens
WHERE account_id = $1 AND token_id = $2 AND revoked_at IS NULL;

-- name: rebuild_accounts
-- Recently active accounts first, so that what is running finds its balance soonest.
SELECT id, balance, n, statement_balance, charged, status, line, tier, public_id, funded FROM accounts WHERE shard = $1 ORDER BY active_at DESC, id;

-- name: rebuild_tokens
SELECT tokens.account_id, tokens.digest, tokens.scope, tokens.revoked_at IS NOT NULL AS revoked
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

-- part: statement_lines
SELECT n AS id, type, amount AS usdc_amount, balance_after, request_id, provider, model, input_tokens, output_tokens,
    cache_write_tokens, cache_read_tokens, estimated, created_at
FROM statement
WHERE account_id = $1 AND ($2::bigint IS NULL OR n < $2) AND ($3::text[] IS NULL OR type = ANY($3)) AND ($4::text IS NULL OR model = $4)
    AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6);

-- name: statement_descending
{{statement_lines}}
ORDER BY n DESC LIMIT $7 OFFSET $8;

-- name: statement_ascending
{{statement_lines}}
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


-- name: lock_instance
SELECT instance_id, mode, genesis FROM instance FOR UPDATE;

-- name: pin_genesis
UPDATE instance SET genesis = $1 WHERE genesis = '';

-- name: read_vault
SELECT * FROM vaults;

-- name: insert_vault
INSERT INTO vaults (genesis, address, owner, mint, token_program, opening, whole_history, cursor_balance) VALUES ($1, $2, $3, $4, $5, $6, $7, $6);

-- name: change_opening
UPDATE vaults SET opening = $1, whole_history = $2, cursor_balance = $1 WHERE NOT opened;

-- name: lock_vault
SELECT * FROM vaults WHERE genesis = $1 AND address = $2 FOR UPDATE;

-- name: share_vault
SELECT stopped FROM vaults WHERE genesis = $1 AND address = $2 FOR SHARE;

-- name: share_vault_of
SELECT stopped FROM vaults WHERE (genesis, address) = (SELECT genesis, vault FROM deposits WHERE id = $1) FOR SHARE;

-- name: move_vault
UPDATE vaults SET opened = true, balance = $3, cursor_signature = $4, cursor_slot = $5, cursor_balance = $6, start_signature = $7, start_slot = $8
WHERE genesis = $1 AND address = $2;

-- name: rewind_vault
UPDATE vaults SET cursor_signature = start_signature, cursor_slot = start_slot, cursor_balance = opening WHERE genesis = $1 AND address = $2;

-- name: stop_crediting
UPDATE vaults SET stopped = $1 FROM (SELECT genesis, address, stopped FROM vaults FOR UPDATE) AS old
WHERE vaults.genesis = old.genesis AND vaults.address = old.address RETURNING old.stopped AS before;

-- name: known_moves
SELECT signature, pre, post FROM vault_moves WHERE genesis = $1 AND vault = $2 AND signature = ANY($3::text[]);

-- name: accounts_by_code
SELECT id, deposit_code, status FROM accounts WHERE deposit_code = ANY($1::text[]);

-- name: codes_by_reference
SELECT reference, deposit_code FROM accounts WHERE reference = ANY($1::bytea[]);

-- name: mark_credited
UPDATE deposits SET state = 'credited', aside = '', account_id = $2, source = $3, actor = $4, credited_at = $5 WHERE key = $1 AND state <> 'credited';

-- name: name_unknown_codes
-- An account may have come back from the outbox after its deposit was recorded.
UPDATE deposits SET state = 'due', aside = '', account_id = accounts.id FROM accounts
WHERE deposits.state = 'aside' AND deposits.aside = 'unknown_code' AND accounts.deposit_code = deposits.deposit_code AND accounts.status <> 'closed';

-- name: due_deposits
SELECT deposits.id, deposits.account_id, accounts.shard FROM deposits JOIN accounts ON accounts.id = deposits.account_id
WHERE deposits.state = 'due' ORDER BY deposits.id LIMIT $1;

-- name: lock_deposit
SELECT id, key, genesis, signature, vault, amount, source, actor, account_id, state FROM deposits WHERE id = $1 FOR UPDATE;

-- name: set_deposit_due
UPDATE deposits SET state = 'due', aside = '', account_id = $2, source = $3, actor = $4 WHERE id = $1 AND state <> 'credited';

-- name: set_deposit_aside
UPDATE deposits SET state = 'aside', aside = $2, account_id = NULL WHERE id = $1 AND state <> 'credited';

-- name: list_deposits
SELECT deposits.id, signature, slot, amount, block_time, senders, deposits.deposit_code, source, aside, account_id, public_id, state, recorded_at, credited_at
FROM deposits LEFT JOIN accounts ON accounts.id = deposits.account_id
WHERE ($1::text IS NULL OR state = $1) AND ($2::bigint IS NULL OR deposits.id < $2) ORDER BY deposits.id DESC LIMIT $3;

-- name: deposit_by_signature
SELECT deposits.id, signature, slot, amount, block_time, senders, deposits.deposit_code, source, aside, account_id, public_id, state, recorded_at, credited_at
FROM deposits LEFT JOIN accounts ON accounts.id = deposits.account_id WHERE signature = $1;

-- name: forget_pending
DELETE FROM pending_deposits WHERE NOT (genesis = $1 AND vault = $2 AND signature = ANY($3::text[]));

-- name: insert_pending
INSERT INTO pending_deposits (genesis, vault, signature, slot, amount, deposit_code, seen_at)
SELECT $1, $2, new.* FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[]) AS new (signature, slot, amount, deposit_code, seen_at)
ON CONFLICT (genesis, vault, signature) DO UPDATE SET slot = excluded.slot, amount = excluded.amount, deposit_code = excluded.deposit_code
WHERE (pending_deposits.slot, pending_deposits.amount, pending_deposits.deposit_code)
    IS DISTINCT FROM (excluded.slot, excluded.amount, excluded.deposit_code);

-- name: pending_by_account
-- What is recorded already is not pending any more, whether or not the watcher has said so yet.
SELECT accounts.id, sum(pending.amount) AS amount
FROM pending_deposits AS pending JOIN accounts ON accounts.deposit_code = pending.deposit_code AND accounts.status <> 'closed'
WHERE NOT EXISTS (SELECT FROM vault_moves AS moves
    WHERE moves.genesis = pending.genesis AND moves.signature = pending.signature AND moves.vault = pending.vault)
GROUP BY accounts.id;

-- name: keep_chain_status
INSERT INTO chain_status (state, reasons, finalized_slot, lag_seconds, backlog, oldest_pending_seconds, vault_on_chain, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (single) DO UPDATE SET state = excluded.state, reasons = excluded.reasons, finalized_slot = excluded.finalized_slot,
    lag_seconds = excluded.lag_seconds, backlog = excluded.backlog, oldest_pending_seconds = excluded.oldest_pending_seconds,
    vault_on_chain = excluded.vault_on_chain, updated_at = excluded.updated_at;

-- name: read_chain_status
SELECT state, reasons, finalized_slot, lag_seconds, backlog, oldest_pending_seconds, vault_on_chain, updated_at FROM chain_status;

-- name: vault_figures
SELECT (SELECT coalesce(sum(balance), 0) FROM house_balances WHERE account = 'vault:usdc') AS vault_balance,
    (SELECT coalesce(sum(opening) FILTER (WHERE opened), 0) FROM vaults) AS opening, moves.*, deposits.*
FROM (
    SELECT count(*) AS moves_count, coalesce(sum(post - pre) FILTER (WHERE post > pre), 0) AS arrived,
        coalesce(sum(pre - post) FILTER (WHERE post < pre), 0) AS withdrawn,
        coalesce(sum(post - pre) FILTER (WHERE kind = 'dust'), 0) AS dust, count(*) FILTER (WHERE kind = 'dust') AS dust_count
    FROM vault_moves) AS moves, (
    SELECT coalesce(sum(amount) FILTER (WHERE state = 'credited'), 0) AS credited, count(*) FILTER (WHERE state = 'credited') AS credited_count,
        coalesce(sum(amount) FILTER (WHERE state = 'due'), 0) AS due, count(*) FILTER (WHERE state = 'due') AS due_count,
        coalesce(sum(amount) FILTER (WHERE state = 'aside'), 0) AS set_aside, count(*) FILTER (WHERE state = 'aside') AS set_aside_count
    FROM deposits) AS deposits;

-- name: insert_claim
WITH forgotten AS (DELETE FROM claims WHERE spent_at IS NULL AND expires_at < now() - interval '1 day')
INSERT INTO claims (id, deposit_id, account_id, text, nonce, expires_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: find_claim
SELECT claims.id, deposit_id, deposits.signature, claims.account_id, text, nonce, opened_at, expires_at, spent_at
FROM claims JOIN deposits ON deposits.id = claims.deposit_id WHERE claims.id = $1;

-- name: spend_claim
-- By the database's clock, so that every process has the same.
UPDATE claims SET spent_at = now() WHERE id = $1 AND spent_at IS NULL AND expires_at > now() RETURNING id;

-- name: audit_deposits
SELECT (SELECT coalesce(sum(balance), 0) FROM house_balances WHERE account = 'vault:usdc') AS vault,
    (SELECT -coalesce(sum(balance), 0) FROM house_balances WHERE account = 'unattributed') AS unattributed,
    (SELECT coalesce(sum(opening) FILTER (WHERE opened), 0) FROM vaults) AS opening,
    (SELECT coalesce(sum(balance), 0) FROM vaults) AS balance,
    moves.*, deposits.*, early.*
FROM (
    SELECT count(*) AS moves, coalesce(sum(post - pre), 0) AS moved, coalesce(sum(post - pre) FILTER (WHERE kind = 'dust'), 0) AS dust
    FROM vault_moves) AS moves, (
    SELECT count(*) AS deposits, coalesce(sum(amount) FILTER (WHERE state <> 'credited'), 0) AS uncredited FROM deposits) AS deposits, (
    SELECT count(*) AS early, coalesce(sum(changes_due.amount), 0) AS early_amount
    FROM changes_due LEFT JOIN deposits ON deposits.key = changes_due.key
    WHERE changes_due.key LIKE 'deposit:%' AND deposits.key IS NULL) AS early;

-- name: audit_moves
-- Moves and journal rows of the house, each against the other: the dust of a page shares one row.
SELECT coalesce(moves.journal_seq, house.seq) AS seq, coalesce(moves.amount, 0) AS moved, coalesce(house.amount, 0) AS posted
FROM (
    SELECT journal_seq, min(kind) AS kind, sum(post - pre) AS amount FROM vault_moves GROUP BY journal_seq) AS moves
FULL JOIN (
    SELECT seq, kind, (SELECT sum(leg.amount) FROM unnest(accounts, amounts) AS leg (account, amount) WHERE leg.account = 'vault:usdc') AS amount
    FROM journal WHERE shard = 64 AND kind IN ('arrival', 'withdrawal', 'dust')) AS house
ON house.seq = moves.journal_seq AND house.kind = moves.kind
WHERE moves.amount IS DISTINCT FROM house.amount ORDER BY 1 LIMIT $1;

-- name: audit_arrivals
SELECT moves.signature, moves.post - moves.pre AS moved, deposits.amount
FROM vault_moves AS moves LEFT JOIN deposits
    ON deposits.genesis = moves.genesis AND deposits.signature = moves.signature AND deposits.vault = moves.vault
WHERE (moves.kind = 'arrival') <> (deposits.id IS NOT NULL) OR deposits.amount <> moves.post - moves.pre ORDER BY moves.signature LIMIT $1;

-- name: audit_credits
-- Credited deposits and their journal rows, each against the other.
SELECT coalesce(deposits.key, credits.key) AS key, deposits.state, deposits.amount, deposits.account_id, credits.amount AS posted, credits.account_id AS posted_to
FROM deposits FULL JOIN (
    SELECT due.key, journal.account_id,
        (SELECT sum(-leg.amount) FROM unnest(journal.accounts, journal.amounts) AS leg (account, amount) WHERE leg.account = 'customer:' || due.account_id) AS amount
    FROM changes_due AS due
    JOIN journal_keys AS keys ON keys.key_sha256 = sha256(convert_to(due.key, 'UTF8'))
    JOIN journal ON journal.shard = keys.shard AND journal.seq = keys.seq
    WHERE due.key LIKE 'deposit:%') AS credits ON credits.key = deposits.key
WHERE (deposits.state = 'credited' AND (credits.amount, credits.account_id) IS DISTINCT FROM (deposits.amount, deposits.account_id))
    OR (deposits.state <> 'credited' AND credits.key IS NOT NULL) ORDER BY 1 LIMIT $1;

-- name: vault_at
-- The vault as the watcher saw it on chain, and what the journal has up to the same slot.
SELECT status.vault_on_chain, status.finalized_slot, status.updated_at, vaults.cursor_signature,
    vaults.opening + (SELECT coalesce(sum(post - pre), 0) FROM vault_moves WHERE slot <= status.finalized_slot) AS recorded
FROM chain_status AS status, vaults
WHERE vaults.opened AND status.vault_on_chain IS NOT NULL AND status.updated_at > $1;

-- name: insert_made
-- An id may come again with a repeated or corrected charge; the first one counts.
INSERT INTO stored_objects (account_id, digest, made_at) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::timestamptz[]) ON CONFLICT DO NOTHING;

-- name: find_stored
SELECT digest FROM stored_objects WHERE account_id = $1 AND digest = ANY($2::bytea[]) AND made_at > now() - make_interval(days => $3);

-- name: forget_stored
DELETE FROM stored_objects WHERE made_at < now() - make_interval(days => $1);

-- What somebody who pays in sees of the deposits.

-- name: deposits_of_account
SELECT deposits.id, signature, slot, amount, block_time, senders, deposits.deposit_code, source, aside, account_id, public_id, state, recorded_at, credited_at
FROM deposits JOIN accounts ON accounts.id = deposits.account_id
WHERE account_id = $1 AND ($2::bigint IS NULL OR deposits.id < $2) ORDER BY deposits.id DESC LIMIT $3;

-- name: deposits_aside_from
SELECT id, signature, slot, amount, block_time, senders, deposit_code, source, aside, account_id, NULL AS public_id, state, recorded_at, credited_at
FROM deposits WHERE state = 'aside' AND senders = ARRAY[$1::text] ORDER BY id DESC LIMIT $2;

-- name: pending_of_account
-- What is recorded already is not pending any more, whether or not the watcher has said so yet.
SELECT signature, slot, pending.amount, pending.deposit_code, seen_at
FROM pending_deposits AS pending JOIN accounts ON accounts.deposit_code = pending.deposit_code
WHERE accounts.id = $1 AND NOT EXISTS (SELECT FROM vault_moves AS moves
    WHERE moves.genesis = pending.genesis AND moves.signature = pending.signature AND moves.vault = pending.vault)
ORDER BY seen_at DESC, signature LIMIT $2;

-- name: move_by_signature
SELECT kind FROM vault_moves WHERE genesis = (SELECT genesis FROM vaults LIMIT 1) AND signature = $1 LIMIT 1;

-- name: pending_by_signature
SELECT signature, slot, amount, deposit_code, seen_at FROM pending_deposits WHERE signature = $1 LIMIT 1;
