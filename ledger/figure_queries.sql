-- name: add_rollups
-- By the hour for each account, and for the whole house. In one order everywhere, so that no two posters wait for each other in a ring.
WITH new AS (
    SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
        $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
    AS new (shard, account_id, hour, provider, model,
        requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost, cache_write_1h_tokens)
), house AS (
    INSERT INTO house_hourly (
        hour, provider, model, reported, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost, cache_write_1h_tokens)
    SELECT hour, provider, model, false, sum(requests), sum(input_tokens), sum(output_tokens), sum(cache_write_tokens), sum(cache_read_tokens),
        sum(amount), sum(provider_cost), sum(cache_write_1h_tokens)
    FROM new GROUP BY hour, provider, model ORDER BY hour, provider, model
    ON CONFLICT (hour, provider, model, reported) DO UPDATE SET
        requests = house_hourly.requests + excluded.requests,
        input_tokens = house_hourly.input_tokens + excluded.input_tokens,
        output_tokens = house_hourly.output_tokens + excluded.output_tokens,
        cache_write_tokens = house_hourly.cache_write_tokens + excluded.cache_write_tokens,
        cache_read_tokens = house_hourly.cache_read_tokens + excluded.cache_read_tokens,
        amount = house_hourly.amount + excluded.amount,
        provider_cost = house_hourly.provider_cost + excluded.provider_cost,
        cache_write_1h_tokens = house_hourly.cache_write_1h_tokens + excluded.cache_write_1h_tokens
)
INSERT INTO rollups_hourly (
    shard, account_id, hour, provider, model,
    requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost, cache_write_1h_tokens)
SELECT * FROM new
ON CONFLICT (shard, account_id, hour, provider, model, reported) DO UPDATE SET
    requests = rollups_hourly.requests + excluded.requests,
    input_tokens = rollups_hourly.input_tokens + excluded.input_tokens,
    output_tokens = rollups_hourly.output_tokens + excluded.output_tokens,
    cache_write_tokens = rollups_hourly.cache_write_tokens + excluded.cache_write_tokens,
    cache_read_tokens = rollups_hourly.cache_read_tokens + excluded.cache_read_tokens,
    amount = rollups_hourly.amount + excluded.amount,
    provider_cost = rollups_hourly.provider_cost + excluded.provider_cost,
    cache_write_1h_tokens = rollups_hourly.cache_write_1h_tokens + excluded.cache_write_1h_tokens;

-- name: add_reported_rollups
-- The counts are what others say: no sum of them may overflow and stop the poster. So are the names: beyond $13 of one account they count as one.
WITH new AS (
    SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
        $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
    AS new (shard, account_id, hour, provider, model,
        requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, cache_write_1h_tokens)
), fresh AS (
    SELECT account_id, provider, model, row_number() OVER (PARTITION BY account_id ORDER BY provider, model) AS place
    FROM (SELECT DISTINCT account_id, provider, model FROM new) AS named
    WHERE NOT EXISTS (SELECT FROM reported_models AS known WHERE (known.account_id, known.provider, known.model) = (named.account_id, named.provider, named.model))
), added AS (
    INSERT INTO reported_models (account_id, provider, model)
    SELECT account_id, provider, model FROM fresh
    WHERE place <= $13 - (SELECT count(*) FROM reported_models WHERE reported_models.account_id = fresh.account_id)
    RETURNING account_id, provider, model
), named AS (
    SELECT new.*, known.model IS NOT NULL OR added.model IS NOT NULL AS apart
    FROM new
    LEFT JOIN reported_models AS known ON (known.account_id, known.provider, known.model) = (new.account_id, new.provider, new.model)
    LEFT JOIN added ON (added.account_id, added.provider, added.model) = (new.account_id, new.provider, new.model)
), house AS (
    INSERT INTO house_hourly (
        hour, provider, model, reported, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost, cache_write_1h_tokens)
    SELECT hour, '', '', true, sum(requests), least(sum(input_tokens), 9223372036854775807), least(sum(output_tokens), 9223372036854775807),
        least(sum(cache_write_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807), sum(amount), 0,
        least(sum(cache_write_1h_tokens), 9223372036854775807)
    FROM new GROUP BY hour ORDER BY hour
    ON CONFLICT (hour, provider, model, reported) DO UPDATE SET
        requests = house_hourly.requests + excluded.requests,
        input_tokens = least(house_hourly.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
        output_tokens = least(house_hourly.output_tokens::numeric + excluded.output_tokens, 9223372036854775807),
        cache_write_tokens = least(house_hourly.cache_write_tokens::numeric + excluded.cache_write_tokens, 9223372036854775807),
        cache_read_tokens = least(house_hourly.cache_read_tokens::numeric + excluded.cache_read_tokens, 9223372036854775807),
        amount = house_hourly.amount + excluded.amount,
        cache_write_1h_tokens = least(house_hourly.cache_write_1h_tokens::numeric + excluded.cache_write_1h_tokens, 9223372036854775807)
)
INSERT INTO rollups_hourly (
    shard, account_id, hour, provider, model, reported,
    requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost, cache_write_1h_tokens)
SELECT shard, account_id, hour, CASE WHEN apart THEN provider ELSE '*' END AS provider, CASE WHEN apart THEN model ELSE '*' END AS model, true,
    sum(requests), least(sum(input_tokens), 9223372036854775807), least(sum(output_tokens), 9223372036854775807),
    least(sum(cache_write_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807), sum(amount), 0,
    least(sum(cache_write_1h_tokens), 9223372036854775807)
FROM named GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (shard, account_id, hour, provider, model, reported) DO UPDATE SET
    requests = rollups_hourly.requests + excluded.requests,
    input_tokens = least(rollups_hourly.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
    output_tokens = least(rollups_hourly.output_tokens::numeric + excluded.output_tokens, 9223372036854775807),
    cache_write_tokens = least(rollups_hourly.cache_write_tokens::numeric + excluded.cache_write_tokens, 9223372036854775807),
    cache_read_tokens = least(rollups_hourly.cache_read_tokens::numeric + excluded.cache_read_tokens, 9223372036854775807),
    amount = rollups_hourly.amount + excluded.amount,
    cache_write_1h_tokens = least(rollups_hourly.cache_write_1h_tokens::numeric + excluded.cache_write_1h_tokens, 9223372036854775807);

-- name: add_work
-- Task types, too, are named by others: beyond $12 of one account they count as one.
WITH new AS (
    SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
        $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
    AS new (shard, account_id, hour, workspace_id, task_type, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount)
), fresh AS (
    SELECT account_id, task_type, row_number() OVER (PARTITION BY account_id ORDER BY task_type) AS place
    FROM (SELECT DISTINCT account_id, task_type FROM new) AS named
    WHERE NOT EXISTS (SELECT FROM task_types AS known WHERE (known.account_id, known.task_type) = (named.account_id, named.task_type))
), added AS (
    INSERT INTO task_types (account_id, task_type)
    SELECT account_id, task_type FROM fresh
    WHERE place <= $12 - (SELECT count(*) FROM task_types WHERE task_types.account_id = fresh.account_id)
    RETURNING account_id, task_type
), named AS (
    SELECT new.*, known.task_type IS NOT NULL OR added.task_type IS NOT NULL AS apart
    FROM new
    LEFT JOIN task_types AS known ON (known.account_id, known.task_type) = (new.account_id, new.task_type)
    LEFT JOIN added ON (added.account_id, added.task_type) = (new.account_id, new.task_type)
)
INSERT INTO work_hourly (
    shard, account_id, hour, workspace_id, task_type, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount)
SELECT shard, account_id, hour, workspace_id, CASE WHEN apart THEN task_type ELSE '*' END AS task_type,
    sum(requests), least(sum(input_tokens), 9223372036854775807), least(sum(output_tokens), 9223372036854775807),
    least(sum(cache_write_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807), sum(amount)
FROM named GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (shard, account_id, hour, workspace_id, task_type) DO UPDATE SET
    requests = work_hourly.requests + excluded.requests,
    input_tokens = least(work_hourly.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
    output_tokens = least(work_hourly.output_tokens::numeric + excluded.output_tokens, 9223372036854775807),
    cache_write_tokens = least(work_hourly.cache_write_tokens::numeric + excluded.cache_write_tokens, 9223372036854775807),
    cache_read_tokens = least(work_hourly.cache_read_tokens::numeric + excluded.cache_read_tokens, 9223372036854775807),
    amount = work_hourly.amount + excluded.amount;

-- name: spend_over_time
-- Buckets begin at $4. What is dearest has a line of its own, the rest is one; '*' is never ranked, for it is such a rest itself.
WITH cells AS MATERIALIZED (
    SELECT CASE WHEN provider = '*' OR $6 = 'provider' THEN provider ELSE provider || '/' || model END AS key, width_bucket(hour, $4::timestamptz[]) AS bucket,
        sum(amount) AS amount
    FROM rollups_hourly
    WHERE shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1 AND hour >= $2 AND hour < $3 GROUP BY 1, 2
), ranked AS (
    SELECT key, row_number() OVER (ORDER BY key = '*', sum(amount) DESC, key) AS place FROM cells GROUP BY key HAVING sum(amount) <> 0
)
SELECT CASE WHEN place <= $5 THEN key ELSE '*' END AS key, CASE WHEN place <= $5 THEN key ELSE '' END AS label, bucket, min(place) AS place,
    sum(amount)::bigint AS amount
FROM cells JOIN ranked USING (key) GROUP BY 1, 2, 3 ORDER BY place;

-- name: work_over_time
-- The same by workspace or task type; the gateway's own traffic has neither, and is '-'.
WITH cells AS MATERIALIZED (
    SELECT CASE $6 WHEN 'workspace' THEN workspace_id ELSE task_type END AS key, width_bucket(hour, $4::timestamptz[]) AS bucket, sum(amount) AS amount
    FROM work_hourly
    WHERE shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1 AND hour >= $2 AND hour < $3 GROUP BY 1, 2
    UNION ALL
    SELECT '-', width_bucket(hour, $4::timestamptz[]), sum(amount)
    FROM rollups_hourly
    WHERE shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1 AND hour >= $2 AND hour < $3 AND NOT reported GROUP BY 2
), ranked AS (
    SELECT key, row_number() OVER (ORDER BY key = '*', sum(amount) DESC, key) AS place FROM cells GROUP BY key HAVING sum(amount) <> 0
), lines AS (
    SELECT CASE WHEN place <= $5 THEN key ELSE '*' END AS key, bucket, min(place) AS place, sum(amount)::bigint AS amount
    FROM cells JOIN ranked USING (key) GROUP BY 1, 2
)
SELECT lines.key, CASE $6 WHEN 'workspace' THEN coalesce(workspaces.name, '') ELSE lines.key END AS label, bucket, place, amount
FROM lines LEFT JOIN workspaces ON $6 = 'workspace' AND workspaces.id = lines.key ORDER BY place;

-- name: usage_by_model
SELECT provider, model, reported, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_write_tokens)::bigint AS cache_write_tokens, sum(cache_write_1h_tokens)::bigint AS cache_write_1h_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(amount)::bigint AS amount, sum(provider_cost)::bigint AS provider_cost
FROM rollups_hourly
WHERE shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1 AND hour >= $2 AND hour < $3
GROUP BY provider, model, reported ORDER BY sum(amount) DESC, sum(requests) DESC, provider, model LIMIT $4;

-- name: usage_by_work
-- By workspace and task type where $5 is 'both', else by one of them: the dearest $4, and the rest as one.
WITH parts AS MATERIALIZED (
    SELECT CASE WHEN $5 = 'task_type' THEN '' ELSE workspace_id END AS workspace_id, CASE WHEN $5 = 'workspace' THEN '' ELSE task_type END AS task_type,
        sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cache_write_tokens) AS cache_write_tokens,
        sum(cache_read_tokens) AS cache_read_tokens, sum(amount) AS amount
    FROM work_hourly
    WHERE shard = (SELECT shard FROM accounts WHERE id = $1) AND account_id = $1 AND hour >= $2 AND hour < $3 GROUP BY 1, 2
), ranked AS (
    SELECT *, row_number() OVER (ORDER BY amount DESC, requests DESC, workspace_id, task_type) AS place FROM parts
), lines AS (
    SELECT CASE WHEN place <= $4 THEN workspace_id ELSE '*' END AS workspace_id, CASE WHEN place <= $4 THEN task_type ELSE '*' END AS task_type,
        place > $4 AS rest, min(place) AS place, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
        sum(output_tokens)::bigint AS output_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens, 0::bigint AS cache_write_1h_tokens,
        sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(amount)::bigint AS amount, 0::bigint AS provider_cost
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
SELECT provider, model, reported, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_write_tokens)::bigint AS cache_write_tokens, sum(cache_write_1h_tokens)::bigint AS cache_write_1h_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(amount)::bigint AS amount, sum(provider_cost)::bigint AS provider_cost
FROM house_hourly WHERE hour >= $1 AND hour < $2 GROUP BY provider, model, reported ORDER BY sum(amount) DESC, sum(requests) DESC, provider, model LIMIT $3;

-- name: house_over_time
WITH cells AS MATERIALIZED (
    SELECT provider || '/' || model AS key, width_bucket(hour, $3::timestamptz[]) AS bucket, sum(amount) AS amount
    FROM house_hourly WHERE hour >= $1 AND hour < $2 AND NOT reported GROUP BY 1, 2
), ranked AS (
    SELECT key, row_number() OVER (ORDER BY sum(amount) DESC, key) AS place FROM cells GROUP BY key HAVING sum(amount) <> 0
)
SELECT CASE WHEN place <= $4 THEN key ELSE '*' END AS key, CASE WHEN place <= $4 THEN key ELSE '' END AS label, bucket, min(place) AS place,
    sum(amount)::bigint AS amount
FROM cells JOIN ranked USING (key) GROUP BY 1, 2, 3 ORDER BY place;

-- name: house_earnings
SELECT width_bucket(hour, $3::timestamptz[]) AS bucket, sum(requests)::bigint AS requests, sum(amount)::bigint AS amount,
    sum(amount - provider_cost)::bigint AS markup
FROM house_hourly WHERE hour >= $1 AND hour < $2 AND NOT reported GROUP BY 1;

-- name: dearest_accounts
SELECT public_id, name, used.*
FROM (
    SELECT account_id AS id, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
        sum(cache_write_tokens)::bigint AS cache_write_tokens, sum(cache_write_1h_tokens)::bigint AS cache_write_1h_tokens,
        sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(amount)::bigint AS amount, sum(provider_cost)::bigint AS provider_cost
    FROM rollups_hourly WHERE hour >= $1 AND hour < $2 GROUP BY account_id ORDER BY sum(amount) DESC, account_id LIMIT $3) AS used
JOIN accounts USING (id) ORDER BY amount DESC, id;

-- name: audit_rollups
-- What the hours of each account come to, against what its events do; a sum that stayed at the end of its numbers proves nothing.
SELECT account_id, reported, rolled.requests AS rolled_requests, events.requests, rolled.amount AS rolled_amount, events.amount
FROM (
    SELECT account_id, reported, sum(requests) AS requests, sum(amount) AS amount, sum(input_tokens) AS input, sum(output_tokens) AS output,
        sum(cache_write_tokens) AS writes, sum(cache_write_1h_tokens) AS long_writes, sum(cache_read_tokens) AS reads,
        max(greatest(input_tokens, output_tokens, cache_write_tokens, cache_read_tokens)) AS most
    FROM rollups_hourly WHERE shard = $1 GROUP BY 1, 2) AS rolled
FULL JOIN (
    SELECT account_id, operation = 'reported' AS reported, count(*) FILTER (WHERE line = 0 OR operation = 'reported') AS requests,
        sum(amount) AS amount, sum(input_tokens) AS input, sum(output_tokens::numeric + coalesce(reasoning_tokens, 0)) AS output,
        sum(coalesce(cache_write_5m_tokens, 0)::numeric + coalesce(cache_write_1h_tokens, 0)) AS writes, sum(coalesce(cache_write_1h_tokens, 0)) AS long_writes,
        sum(coalesce(cache_read_tokens, 0)) AS reads
    FROM usage_events WHERE account_id IN (SELECT id FROM accounts WHERE accounts.shard = $1) AND NOT superseded GROUP BY 1, 2) AS events
USING (account_id, reported)
WHERE (coalesce(rolled.requests, 0), coalesce(rolled.amount, 0), coalesce(rolled.input, 0), coalesce(rolled.output, 0), coalesce(rolled.writes, 0),
        coalesce(rolled.long_writes, 0), coalesce(rolled.reads, 0))
    <> (coalesce(events.requests, 0), coalesce(events.amount, 0), coalesce(events.input, 0), coalesce(events.output, 0), coalesce(events.writes, 0),
        coalesce(events.long_writes, 0), coalesce(events.reads, 0))
    AND coalesce(rolled.most, 0) < 9223372036854775807
ORDER BY account_id, reported LIMIT $2;

-- name: audit_provider_cost
SELECT coalesce(sum(provider_cost), 0)::bigint FROM rollups_hourly WHERE shard = $1;

-- name: audit_work
-- Hours in which work does not come to what was reported.
SELECT account_id, hour, coalesce(work.requests, 0) AS requests, coalesce(work.amount, 0) AS amount, coalesce(rolled.requests, 0) AS rolled_requests,
    coalesce(rolled.amount, 0) AS rolled_amount
FROM (
    SELECT account_id, hour, sum(requests) AS requests, sum(amount) AS amount, sum(input_tokens + output_tokens::numeric) AS tokens,
        max(greatest(input_tokens, output_tokens)) AS most
    FROM work_hourly WHERE shard = $1 GROUP BY 1, 2) AS work
FULL JOIN (
    SELECT account_id, hour, sum(requests) AS requests, sum(amount) AS amount, sum(input_tokens + output_tokens::numeric) AS tokens,
        max(greatest(input_tokens, output_tokens)) AS most
    FROM rollups_hourly WHERE shard = $1 AND reported GROUP BY 1, 2) AS rolled
USING (account_id, hour)
WHERE (work.requests, work.amount, work.tokens) IS DISTINCT FROM (rolled.requests, rolled.amount, rolled.tokens)
    AND greatest(work.most, rolled.most) < 9223372036854775807
ORDER BY account_id, hour LIMIT $2;

-- name: audit_house_hours
-- Hours of the house that are not the sum of its accounts'.
SELECT hour, provider, model, coalesce(house.requests, 0) AS requests, coalesce(house.amount, 0) AS amount, coalesce(rolled.requests, 0) AS rolled_requests,
    coalesce(rolled.amount, 0) AS rolled_amount
FROM house_hourly AS house
FULL JOIN (
    SELECT hour, CASE WHEN reported THEN '' ELSE provider END AS provider, CASE WHEN reported THEN '' ELSE model END AS model, reported,
        sum(requests) AS requests, sum(amount) AS amount, sum(provider_cost) AS provider_cost
    FROM rollups_hourly GROUP BY 1, 2, 3, 4) AS rolled
USING (hour, provider, model, reported)
WHERE (house.requests, house.amount, house.provider_cost) IS DISTINCT FROM (rolled.requests, rolled.amount, rolled.provider_cost)
ORDER BY hour, provider, model LIMIT $1;
