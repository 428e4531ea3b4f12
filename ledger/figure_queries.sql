-- Figures are read of days where whole days will do, and of hours around them: the days begin with one array and end before the next, the hours with
-- the two arrays after these. Of a day `hour` is the first one.

-- part: account_hours   of account $1
(
    SELECT kept.* FROM unnest($4::timestamptz[], $5::timestamptz[]) AS span (since, until)
    JOIN rollups_hourly AS kept ON hour >= since AND hour < until
        AND shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1
    UNION ALL
    SELECT kept.* FROM unnest($2::timestamptz[], $3::timestamptz[]) AS span (since, until)
    JOIN rollups_daily AS kept ON day >= since AND day < until
        AND shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1
    );

-- part: work_hours   of account $1
(
    SELECT kept.* FROM unnest($4::timestamptz[], $5::timestamptz[]) AS span (since, until)
    JOIN work_hourly AS kept ON hour >= since AND hour < until
        AND shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1
    UNION ALL
    SELECT kept.* FROM unnest($2::timestamptz[], $3::timestamptz[]) AS span (since, until)
    JOIN work_daily AS kept ON day >= since AND day < until
        AND shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1
    );

-- part: all_hours   of all accounts
(
    SELECT kept.* FROM unnest($3::timestamptz[], $4::timestamptz[]) AS span (since, until)
    JOIN rollups_hourly AS kept ON hour >= since AND hour < until
    UNION ALL
    SELECT kept.* FROM unnest($1::timestamptz[], $2::timestamptz[]) AS span (since, until)
    JOIN rollups_daily AS kept ON day >= since AND day < until
    );

-- part: house_hours   of the house
(
    SELECT kept.* FROM unnest($3::timestamptz[], $4::timestamptz[]) AS span (since, until)
    JOIN house_hourly AS kept ON hour >= since AND hour < until
    UNION ALL
    SELECT kept.* FROM unnest($1::timestamptz[], $2::timestamptz[]) AS span (since, until)
    JOIN house_daily AS kept ON day >= since AND day < until
    );

-- name: spend_over_time
-- Buckets begin at $6. What is dearest has a line of its own, the rest is one; '*' is never ranked, for it is such a rest itself.
WITH cells AS MATERIALIZED (
    SELECT CASE WHEN provider = '*' OR $8 = 'provider' THEN provider ELSE provider || '/' || model END AS key, width_bucket(hour, $6::timestamptz[]) AS bucket,
        sum(amount) AS amount
    FROM {{account_hours}} AS used GROUP BY 1, 2
), ranked AS (
    SELECT key, row_number() OVER (ORDER BY key = '*', sum(amount) DESC, key) AS place FROM cells GROUP BY key HAVING sum(amount) <> 0
)
SELECT CASE WHEN place <= $7 THEN key ELSE '*' END AS key, CASE WHEN place <= $7 THEN key ELSE '' END AS label, bucket, min(place) AS place,
    sum(amount)::bigint AS amount
FROM cells JOIN ranked USING (key) GROUP BY 1, 2, 3 ORDER BY place;

-- name: work_over_time
-- The same by workspace or task type; the gateway's own traffic has neither, and is '-'.
WITH cells AS MATERIALIZED (
    SELECT CASE $8 WHEN 'workspace' THEN workspace_id ELSE task_type END AS key, width_bucket(hour, $6::timestamptz[]) AS bucket, sum(amount) AS amount
    FROM {{work_hours}} AS used GROUP BY 1, 2
    UNION ALL
    SELECT '-', width_bucket(hour, $6::timestamptz[]), sum(amount)
    FROM {{account_hours}} AS used WHERE NOT reported GROUP BY 2
), ranked AS (
    SELECT key, row_number() OVER (ORDER BY key = '*', sum(amount) DESC, key) AS place FROM cells GROUP BY key HAVING sum(amount) <> 0
), lines AS (
    SELECT CASE WHEN place <= $7 THEN key ELSE '*' END AS key, bucket, min(place) AS place, sum(amount)::bigint AS amount
    FROM cells JOIN ranked USING (key) GROUP BY 1, 2
)
SELECT lines.key, CASE $8 WHEN 'workspace' THEN coalesce(workspaces.name, '') ELSE lines.key END AS label, bucket, place, amount
FROM lines LEFT JOIN workspaces ON $8 = 'workspace' AND workspaces.id = lines.key ORDER BY place;

-- name: usage_by_model
SELECT provider, model, reported, {{sums}}
FROM {{account_hours}} AS used
GROUP BY provider, model, reported ORDER BY sum(amount) DESC, sum(requests) DESC, provider, model LIMIT $6;

-- name: usage_by_work
-- By workspace and task type where $7 is 'both', else by one of them: the dearest $6, and the rest as one.
WITH parts AS MATERIALIZED (
    SELECT CASE WHEN $7 = 'task_type' THEN '' ELSE workspace_id END AS workspace_id, CASE WHEN $7 = 'workspace' THEN '' ELSE task_type END AS task_type,
    {{work_sums}}
    FROM {{work_hours}} AS used GROUP BY 1, 2
), ranked AS (
    SELECT *, row_number() OVER (ORDER BY amount DESC, requests DESC, workspace_id, task_type) AS place FROM parts
), lines AS (
    SELECT CASE WHEN place <= $6 THEN workspace_id ELSE '*' END AS workspace_id, CASE WHEN place <= $6 THEN task_type ELSE '*' END AS task_type,
        place > $6 AS rest, min(place) AS place, 0::bigint AS cache_write_1h_tokens, 0::bigint AS provider_cost,
    {{work_sums}}
    FROM ranked GROUP BY 1, 2, 3
)
SELECT lines.*, coalesce(workspaces.name, '') AS workspace
FROM lines LEFT JOIN workspaces ON workspaces.id = lines.workspace_id ORDER BY lines.place;

-- name: burn
SELECT coalesce(sum(amount), 0)::bigint AS spent, min(hour) FILTER (WHERE amount > 0) AS first
FROM rollups_hourly WHERE shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1 AND hour >= $2;

-- name: house_money
SELECT (SELECT coalesce(sum(balance), 0)::bigint FROM accounts) AS customers, (SELECT count(*) FROM accounts WHERE status <> 'closed') AS accounts,
    (SELECT coalesce(jsonb_object_agg(account, balance), '{}')::text FROM (
        SELECT account, sum(balance) AS balance FROM house_balances GROUP BY account) AS house) AS house;

-- name: house_usage
SELECT provider, model, reported, {{sums}}
FROM {{house_hours}} AS used
GROUP BY provider, model, reported ORDER BY sum(amount) DESC, sum(requests) DESC, provider, model LIMIT $5;

-- name: house_over_time
WITH cells AS MATERIALIZED (
    SELECT provider || '/' || model AS key, width_bucket(hour, $5::timestamptz[]) AS bucket, sum(amount) AS amount
    FROM {{house_hours}} AS used WHERE NOT reported GROUP BY 1, 2
), ranked AS (
    SELECT key, row_number() OVER (ORDER BY sum(amount) DESC, key) AS place FROM cells GROUP BY key HAVING sum(amount) <> 0
)
SELECT CASE WHEN place <= $6 THEN key ELSE '*' END AS key, CASE WHEN place <= $6 THEN key ELSE '' END AS label, bucket, min(place) AS place,
    sum(amount)::bigint AS amount
FROM cells JOIN ranked USING (key) GROUP BY 1, 2, 3 ORDER BY place;

-- name: house_earnings
SELECT width_bucket(hour, $5::timestamptz[]) AS bucket, sum(requests)::bigint AS requests, sum(amount)::bigint AS amount,
    sum(amount - provider_cost)::bigint AS markup
FROM {{house_hours}} AS used WHERE NOT reported GROUP BY 1;

-- name: dearest_accounts
SELECT public_id, name, used.*
FROM (
    SELECT account_id AS id, {{sums}}
    FROM {{all_hours}} AS used
    GROUP BY account_id ORDER BY sum(amount) DESC, account_id LIMIT $5) AS used
JOIN accounts USING (id) ORDER BY amount DESC, id;
