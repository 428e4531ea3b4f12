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
