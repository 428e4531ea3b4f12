-- Figures that pages read: what kind of work in which workspace cost what, the whole house by the hour, and cache writes for an hour,
-- which cost more than others. All of them run with the journal; what was posted before is added up here.

ALTER TABLE rollups_hourly ADD COLUMN cache_write_1h_tokens bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN rollups_hourly.cache_write_1h_tokens IS 'a part of cache_write_tokens';
-- Rows come in the order of their hours, so that a range of hours is a range of the table.
CREATE INDEX rollups_by_hour ON rollups_hourly USING brin (hour) WITH (pages_per_range = 16);

UPDATE rollups_hourly SET cache_write_1h_tokens = found.tokens FROM (
    SELECT shard, account_id, hour, provider, model, reported, sum(tokens) AS tokens FROM (
        SELECT shard, account_id, date_trunc('hour', settled_at, 'UTC') AS hour, provider, model, operation = 'reported' AS reported, cache_write_1h_tokens AS tokens
        FROM usage_events WHERE cache_write_1h_tokens > 0
        UNION ALL
        -- What was replaced was taken away in the hour of what replaced it.
        SELECT events.shard, events.account_id, date_trunc('hour', journal.settled_at, 'UTC'), provider, model, false, -cache_write_1h_tokens
        FROM usage_events AS events
        JOIN journal_keys AS keys ON keys.key_sha256 = sha256(convert_to('adjust:' || events.request_id, 'UTF8'))
        JOIN journal ON journal.shard = keys.shard AND journal.seq = keys.seq
        WHERE events.superseded AND events.cache_write_1h_tokens > 0) AS moved
    GROUP BY 1, 2, 3, 4, 5, 6) AS found
WHERE (rollups_hourly.shard, rollups_hourly.account_id, rollups_hourly.hour, rollups_hourly.provider, rollups_hourly.model, rollups_hourly.reported)
    = (found.shard, found.account_id, found.hour, found.provider, found.model, found.reported);

-- Models and task types are named by whoever reports: of each account so many are told apart, and the rest count together as '*'.
CREATE TABLE reported_models (
    account_id bigint NOT NULL,
    provider   text NOT NULL,
    model      text NOT NULL,
    PRIMARY KEY (account_id, provider, model)
);
INSERT INTO reported_models
SELECT account_id, provider, model FROM (
    SELECT account_id, provider, model, row_number() OVER (PARTITION BY account_id ORDER BY min(hour), provider, model) AS place
    FROM rollups_hourly WHERE reported GROUP BY account_id, provider, model) AS named
WHERE place <= 500;

CREATE TABLE task_types (
    account_id bigint NOT NULL,
    task_type  text NOT NULL,
    PRIMARY KEY (account_id, task_type)
);
INSERT INTO task_types
SELECT account_id, task_type FROM (
    SELECT account_id, task_type, row_number() OVER (PARTITION BY account_id ORDER BY min(settled_at), task_type) AS place
    FROM usage_events WHERE operation = 'reported' GROUP BY account_id, task_type) AS named
WHERE place <= 200 AND task_type IS NOT NULL;

-- What reported usage was for. The gateway's own traffic names no task and no workspace: it is in rollups_hourly alone.
CREATE TABLE work_hourly (
    shard              smallint NOT NULL,
    account_id         bigint NOT NULL,
    hour               timestamptz NOT NULL,
    workspace_id       text NOT NULL,
    task_type          text NOT NULL,
    requests           bigint NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    amount             bigint NOT NULL,
    PRIMARY KEY (shard, account_id, hour, workspace_id, task_type)
) WITH (fillfactor = 70);
COMMENT ON COLUMN work_hourly.workspace_id IS 'empty where the events named none';

INSERT INTO work_hourly
SELECT events.shard, events.account_id, date_trunc('hour', settled_at, 'UTC'), coalesce(workspace_id, ''), coalesce(task_types.task_type, '*'), count(*),
    least(sum(input_tokens), 9223372036854775807), least(sum(output_tokens::numeric + coalesce(reasoning_tokens, 0)), 9223372036854775807),
    least(sum(coalesce(cache_write_5m_tokens, 0)::numeric + coalesce(cache_write_1h_tokens, 0)), 9223372036854775807),
    least(sum(coalesce(cache_read_tokens, 0)), 9223372036854775807), sum(amount)
FROM usage_events AS events LEFT JOIN task_types ON task_types.account_id = events.account_id AND task_types.task_type = events.task_type
WHERE operation = 'reported' GROUP BY 1, 2, 3, 4, 5;

-- The whole house: models that the gateway served, and in one row an hour all that was only reported.
CREATE TABLE house_hourly (
    hour                  timestamptz NOT NULL,
    provider              text NOT NULL,
    model                 text NOT NULL,
    reported              boolean NOT NULL,
    requests              bigint NOT NULL,
    input_tokens          bigint NOT NULL,
    output_tokens         bigint NOT NULL,
    cache_write_tokens    bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    cache_read_tokens     bigint NOT NULL,
    amount                bigint NOT NULL,
    provider_cost         bigint NOT NULL,
    PRIMARY KEY (hour, provider, model, reported)
) WITH (fillfactor = 50);

INSERT INTO house_hourly
SELECT hour, CASE WHEN reported THEN '' ELSE provider END, CASE WHEN reported THEN '' ELSE model END, reported, sum(requests),
    least(sum(input_tokens), 9223372036854775807), least(sum(output_tokens), 9223372036854775807), least(sum(cache_write_tokens), 9223372036854775807),
    least(sum(cache_write_1h_tokens), 9223372036854775807), least(sum(cache_read_tokens), 9223372036854775807), sum(amount), sum(provider_cost)
FROM rollups_hourly GROUP BY 1, 2, 3, 4;

-- What a line of the statement was for, so that it can be looked for; '*' where its events are of several.
ALTER TABLE statement ADD COLUMN workspace_id text, ADD COLUMN task_type text;
ALTER TABLE statement DISABLE TRIGGER immutable;
UPDATE statement SET workspace_id = found.workspace_id, task_type = found.task_type FROM (
    SELECT shard, seq, nullif(CASE WHEN min(coalesce(workspace_id, '')) = max(coalesce(workspace_id, '')) THEN min(coalesce(workspace_id, '')) ELSE '*' END, '')
        AS workspace_id, CASE WHEN min(task_type) = max(task_type) THEN min(task_type) ELSE '*' END AS task_type
    FROM usage_events WHERE operation = 'reported' GROUP BY shard, seq) AS found
WHERE statement.kind = 'usage' AND (statement.shard, statement.seq) = (found.shard, found.seq);
ALTER TABLE statement ENABLE TRIGGER immutable;
