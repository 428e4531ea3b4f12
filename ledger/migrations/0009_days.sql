-- The figures by the day (UTC), beside those by the hour: what covers months reads a row where it would read twenty-four. They are written with
-- the hours, in the same transaction; what was posted before is added up here. The columns are those of the hours, in their order.

CREATE TABLE rollups_daily (LIKE rollups_hourly INCLUDING COMMENTS INCLUDING DEFAULTS) WITH (fillfactor = 70);
ALTER TABLE rollups_daily RENAME COLUMN hour TO day;
INSERT INTO rollups_daily (
    shard, account_id, day, provider, model, reported, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount, provider_cost,
    cache_write_1h_tokens)
SELECT shard, account_id, date_trunc('day', hour, 'UTC'), provider, model, reported, sum(requests), least(sum(input_tokens), 9223372036854775807),
    least(sum(output_tokens), 9223372036854775807), least(sum(cache_write_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807),
    sum(amount), sum(provider_cost), least(sum(cache_write_1h_tokens), 9223372036854775807)
FROM rollups_hourly GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 3, 1, 2;
ALTER TABLE rollups_daily ADD PRIMARY KEY (shard, account_id, day, provider, model, reported);
CREATE INDEX rollups_by_day ON rollups_daily USING brin (day) WITH (pages_per_range = 16);

CREATE TABLE work_daily (LIKE work_hourly INCLUDING COMMENTS) WITH (fillfactor = 70);
ALTER TABLE work_daily RENAME COLUMN hour TO day;
INSERT INTO work_daily (
    shard, account_id, day, workspace_id, task_type, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, amount)
SELECT shard, account_id, date_trunc('day', hour, 'UTC'), workspace_id, task_type, sum(requests), least(sum(input_tokens), 9223372036854775807),
    least(sum(output_tokens), 9223372036854775807), least(sum(cache_write_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807),
    sum(amount)
FROM work_hourly GROUP BY 1, 2, 3, 4, 5;
ALTER TABLE work_daily ADD PRIMARY KEY (shard, account_id, day, workspace_id, task_type);

CREATE TABLE house_daily (LIKE house_hourly) WITH (fillfactor = 50);
ALTER TABLE house_daily RENAME COLUMN hour TO day;
INSERT INTO house_daily (
    day, provider, model, reported, requests, input_tokens, output_tokens, cache_write_tokens, cache_write_1h_tokens, cache_read_tokens, amount, provider_cost)
SELECT date_trunc('day', hour, 'UTC'), provider, model, reported, sum(requests), least(sum(input_tokens), 9223372036854775807),
    least(sum(output_tokens), 9223372036854775807), least(sum(cache_write_tokens), 9223372036854775807),
    least(sum(cache_write_1h_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807), sum(amount), sum(provider_cost)
FROM house_hourly GROUP BY 1, 2, 3, 4;
ALTER TABLE house_daily ADD PRIMARY KEY (day, provider, model, reported);
