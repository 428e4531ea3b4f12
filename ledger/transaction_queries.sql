-- name: line_before
-- The last line of an account that was made before a moment, by halving: lines are gapless, and in the order of their times but for
-- changes that waited to be applied.
WITH RECURSIVE halves AS (
    SELECT 0::bigint AS low, n + 1 AS high FROM accounts WHERE id = $1
    UNION ALL
    SELECT CASE WHEN probe.created_at < $2 THEN middle ELSE low END, CASE WHEN probe.created_at < $2 THEN high ELSE middle END
    FROM (SELECT low, high, (low + high) / 2 AS middle FROM halves WHERE high - low > 1) AS half
    CROSS JOIN LATERAL (SELECT created_at FROM statement WHERE account_id = $1 AND n = half.middle) AS probe
)
SELECT low FROM halves ORDER BY high - low LIMIT 1;

-- name: last_line
SELECT n FROM accounts WHERE id = $1;

-- part: found_lines   that bear what is looked for, between two numbers
SELECT n AS id, type, kind, amount AS usdc_amount, balance_after, request_id, provider, model, input_tokens, output_tokens, cache_write_tokens,
    cache_read_tokens, estimated, statement.created_at, workspace_id, workspaces.name AS workspace, task_type
FROM statement LEFT JOIN workspaces ON workspaces.id = workspace_id
WHERE statement.account_id = $1 AND n > $2 AND n < $3 AND ($4::text IS NULL OR type = $4) AND ($5::text IS NULL OR provider = $5)
    AND ($6::text IS NULL OR model = $6) AND ($7::text IS NULL OR workspace_id = $7)
    AND ($8::timestamptz IS NULL OR statement.created_at >= $8) AND ($9::timestamptz IS NULL OR statement.created_at < $9)
    AND ($10::text IS NULL OR starts_with(request_id, $10) OR position($10 IN lower(model)) > 0 OR position($10 IN lower(task_type)) > 0);

-- name: search_descending
{{found_lines}}
ORDER BY n DESC LIMIT $11;

-- name: search_ascending
{{found_lines}}
ORDER BY n LIMIT $11;

-- name: moments_of_request
-- When a request's rows were settled: its charge, what corrected it, or what reported it.
SELECT journal.settled_at
FROM journal_keys AS keys JOIN journal ON journal.shard = keys.shard AND journal.seq = keys.seq
WHERE keys.key_sha256 = ANY($2::bytea[]) AND journal.account_id = $1;

-- name: receipt_line
SELECT statement.*, workspaces.name AS workspace FROM statement LEFT JOIN workspaces ON workspaces.id = workspace_id
WHERE statement.account_id = $1 AND n = $2;

-- name: receipt_rows
-- A row of the journal and the one before it, to whose hash its own is chained.
SELECT shard, seq, settled_at, occurred_at, posted_at, kind, key, account_id, accounts, amounts, numerator, rate_card, detail, hash
FROM journal WHERE shard = $1 AND seq IN ($2::bigint, $2::bigint - 1) ORDER BY seq DESC;

-- name: receipt_card
SELECT hash, body, loaded_at FROM rate_cards WHERE hash = $1;

-- name: receipt_events
SELECT line, provider, model, operation, input_tokens, output_tokens, reasoning_tokens, cache_write_5m_tokens, cache_write_1h_tokens, cache_read_tokens,
    amount, estimated, unpriced, superseded, occurred_at, task_type, source, workspace_id, workspaces.name AS workspace, external_ref, user_id
FROM usage_events LEFT JOIN workspaces ON workspaces.id = workspace_id
WHERE usage_events.account_id = $1 AND settled_at = $2 AND seq = $3 ORDER BY line LIMIT $4;

-- name: receipt_event_count
SELECT count(*) FROM usage_events WHERE account_id = $1 AND settled_at = $2 AND seq = $3;

-- name: lines_of_request
SELECT n, kind, amount FROM statement WHERE account_id = $1 AND n > $2 AND n < $3 AND request_id = $4 ORDER BY n;
