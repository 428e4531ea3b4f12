-- Roll-ups are written and checked here, and read in figure_queries.sql. What is reported has counts that others say: no sum of them may overflow.

-- part: counts
requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost, cache_write_1h_tokens;

-- part: work_counts
requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount;

-- part: sums
sum(requests)::bigint AS requests, least(sum(input_tokens), 9223372036854775807)::bigint AS input_tokens,
    least(sum(output_tokens), 9223372036854775807)::bigint AS output_tokens,
    least(sum(cache_write_tokens), 9223372036854775807)::bigint AS cache_write_tokens,
    least(sum(cache_read_tokens), 9223372036854775807)::bigint AS cache_read_tokens, sum(amount)::bigint AS amount,
    sum(provider_cost)::bigint AS provider_cost, least(sum(cache_write_1h_tokens), 9223372036854775807)::bigint AS cache_write_1h_tokens;

-- part: work_sums
sum(requests)::bigint AS requests, least(sum(input_tokens), 9223372036854775807)::bigint AS input_tokens,
    least(sum(output_tokens), 9223372036854775807)::bigint AS output_tokens,
    least(sum(cache_write_tokens), 9223372036854775807)::bigint AS cache_write_tokens,
    least(sum(cache_read_tokens), 9223372036854775807)::bigint AS cache_read_tokens, sum(amount)::bigint AS amount;

-- part: added
requests = kept.requests + excluded.requests, input_tokens = kept.input_tokens + excluded.input_tokens,
    output_tokens = kept.output_tokens + excluded.output_tokens, cache_write_tokens = kept.cache_write_tokens + excluded.cache_write_tokens,
    cache_read_tokens = kept.cache_read_tokens + excluded.cache_read_tokens, amount = kept.amount + excluded.amount,
    provider_cost = kept.provider_cost + excluded.provider_cost, cache_write_1h_tokens = kept.cache_write_1h_tokens + excluded.cache_write_1h_tokens;

-- part: added_bounded
requests = kept.requests + excluded.requests, input_tokens = least(kept.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
    output_tokens = least(kept.output_tokens::numeric + excluded.output_tokens, 9223372036854775807),
    cache_write_tokens = least(kept.cache_write_tokens::numeric + excluded.cache_write_tokens, 9223372036854775807),
    cache_read_tokens = least(kept.cache_read_tokens::numeric + excluded.cache_read_tokens, 9223372036854775807), amount = kept.amount + excluded.amount,
    cache_write_1h_tokens = least(kept.cache_write_1h_tokens::numeric + excluded.cache_write_1h_tokens, 9223372036854775807);

-- part: work_added_bounded
requests = kept.requests + excluded.requests, input_tokens = least(kept.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
    output_tokens = least(kept.output_tokens::numeric + excluded.output_tokens, 9223372036854775807),
    cache_write_tokens = least(kept.cache_write_tokens::numeric + excluded.cache_write_tokens, 9223372036854775807),
    cache_read_tokens = least(kept.cache_read_tokens::numeric + excluded.cache_read_tokens, 9223372036854775807), amount = kept.amount + excluded.amount;

-- name: add_rollups
-- By the hour and by the day (UTC), for each account and for the whole house. In one order everywhere, so that no two posters wait for each other in
-- a ring.
WITH new AS (
    SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
        $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
    AS new (shard, account_id, hour, provider, model, {{counts}})
), house AS (
    INSERT INTO house_hourly AS kept (hour, provider, model, reported, {{counts}})
    SELECT hour, provider, model, false, {{sums}}
    FROM new GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (hour, provider, model, reported) DO UPDATE SET
    {{added}}
), house_days AS (
    INSERT INTO house_daily AS kept (day, provider, model, reported, {{counts}})
    SELECT date_trunc('day', hour, 'UTC'), provider, model, false, {{sums}}
    FROM new GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (day, provider, model, reported) DO UPDATE SET
    {{added}}
), days AS (
    INSERT INTO rollups_daily AS kept (shard, account_id, day, provider, model, {{counts}})
    SELECT shard, account_id, date_trunc('day', hour, 'UTC'), provider, model, {{sums}}
    FROM new GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (shard, account_id, day, provider, model, reported) DO UPDATE SET
    {{added}}
)
INSERT INTO rollups_hourly AS kept (shard, account_id, hour, provider, model, {{counts}})
SELECT * FROM new
ON CONFLICT (shard, account_id, hour, provider, model, reported) DO UPDATE SET
    {{added}};

-- name: add_reported_rollups
-- The counts are what others say: no sum of them may overflow and stop the poster. So are the names: beyond $13 of one account they count as one.
WITH new AS (
    SELECT *, 0::bigint AS provider_cost FROM unnest(
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
    SELECT shard, new.account_id, hour, coalesce(known.provider, added.provider, '*') AS provider, coalesce(known.model, added.model, '*') AS model, {{counts}}
    FROM new
    LEFT JOIN reported_models AS known ON (known.account_id, known.provider, known.model) = (new.account_id, new.provider, new.model)
    LEFT JOIN added ON (added.account_id, added.provider, added.model) = (new.account_id, new.provider, new.model)
), house AS (
    INSERT INTO house_hourly AS kept (hour, provider, model, reported, {{counts}})
    SELECT hour, '', '', true, {{sums}}
    FROM new GROUP BY 1 ORDER BY 1
    ON CONFLICT (hour, provider, model, reported) DO UPDATE SET
    {{added_bounded}}
), house_days AS (
    INSERT INTO house_daily AS kept (day, provider, model, reported, {{counts}})
    SELECT date_trunc('day', hour, 'UTC'), '', '', true, {{sums}}
    FROM new GROUP BY 1 ORDER BY 1
    ON CONFLICT (day, provider, model, reported) DO UPDATE SET
    {{added_bounded}}
), days AS (
    INSERT INTO rollups_daily AS kept (shard, account_id, day, provider, model, reported, {{counts}})
    SELECT shard, account_id, date_trunc('day', hour, 'UTC'), provider, model, true, {{sums}}
    FROM named GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (shard, account_id, day, provider, model, reported) DO UPDATE SET
    {{added_bounded}}
)
INSERT INTO rollups_hourly AS kept (shard, account_id, hour, provider, model, reported, {{counts}})
SELECT shard, account_id, hour, provider, model, true, {{sums}}
FROM named GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (shard, account_id, hour, provider, model, reported) DO UPDATE SET
    {{added_bounded}};

-- name: add_work
-- Task types, too, are named by others: beyond $12 of one account they count as one.
WITH new AS (
    SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[],
        $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
    AS new (shard, account_id, hour, workspace_id, task_type, {{work_counts}})
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
    SELECT shard, new.account_id, hour, workspace_id, coalesce(known.task_type, added.task_type, '*') AS task_type, {{work_counts}}
    FROM new
    LEFT JOIN task_types AS known ON (known.account_id, known.task_type) = (new.account_id, new.task_type)
    LEFT JOIN added ON (added.account_id, added.task_type) = (new.account_id, new.task_type)
), days AS (
    INSERT INTO work_daily AS kept (shard, account_id, day, workspace_id, task_type, {{work_counts}})
    SELECT shard, account_id, date_trunc('day', hour, 'UTC'), workspace_id, task_type, {{work_sums}}
    FROM named GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (shard, account_id, day, workspace_id, task_type) DO UPDATE SET
    {{work_added_bounded}}
)
INSERT INTO work_hourly AS kept (shard, account_id, hour, workspace_id, task_type, {{work_counts}})
SELECT shard, account_id, hour, workspace_id, task_type, {{work_sums}}
FROM named GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (shard, account_id, hour, workspace_id, task_type) DO UPDATE SET
    {{work_added_bounded}};

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

-- name: audit_days
-- Days of accounts that are not the sum of their hours; a sum that stayed at the end of its numbers stays there in both.
WITH daily AS (
    SELECT account_id, day, provider, model, reported, {{counts}}
    FROM rollups_daily WHERE shard = $1
), hourly AS (
    SELECT account_id, date_trunc('day', hour, 'UTC') AS day, provider, model, reported, {{sums}}
    FROM rollups_hourly WHERE shard = $1 GROUP BY 1, 2, 3, 4, 5
), other AS (
    SELECT true AS kept, * FROM (TABLE daily EXCEPT TABLE hourly) AS days
    UNION ALL
    SELECT false AS kept, * FROM (TABLE hourly EXCEPT TABLE daily) AS hours
)
SELECT account_id, day, abs(sum(CASE WHEN kept THEN amount ELSE -amount END)) AS difference FROM other GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $2;

-- name: audit_work_days
-- The same by kind of work.
WITH daily AS (
    SELECT account_id, day, workspace_id, task_type, {{work_counts}}
    FROM work_daily WHERE shard = $1
), hourly AS (
    SELECT account_id, date_trunc('day', hour, 'UTC') AS day, workspace_id, task_type, {{work_sums}}
    FROM work_hourly WHERE shard = $1 GROUP BY 1, 2, 3, 4
), other AS (
    SELECT true AS kept, * FROM (TABLE daily EXCEPT TABLE hourly) AS days
    UNION ALL
    SELECT false AS kept, * FROM (TABLE hourly EXCEPT TABLE daily) AS hours
)
SELECT account_id, day, abs(sum(CASE WHEN kept THEN amount ELSE -amount END)) AS difference FROM other GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $2;

-- name: audit_house_days
-- The same of the whole house.
WITH daily AS (
    SELECT day, provider, model, reported, {{counts}}
    FROM house_daily
), hourly AS (
    SELECT date_trunc('day', hour, 'UTC') AS day, provider, model, reported, {{sums}}
    FROM house_hourly GROUP BY 1, 2, 3, 4
), other AS (
    SELECT true AS kept, * FROM (TABLE daily EXCEPT TABLE hourly) AS days
    UNION ALL
    SELECT false AS kept, * FROM (TABLE hourly EXCEPT TABLE daily) AS hours
)
SELECT day, abs(sum(CASE WHEN kept THEN amount ELSE -amount END)) AS difference FROM other GROUP BY 1 ORDER BY 1 LIMIT $1;
