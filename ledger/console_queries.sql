-- What the operator's console reads and keeps.

-- name: make_link
WITH forgotten AS (DELETE FROM console_links WHERE expires_at < now() - interval '1 day')
INSERT INTO console_links (digest, name, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3)) RETURNING expires_at;

-- name: use_link
-- Deleted as it is used: of two who come at once one finds nothing.
DELETE FROM console_links WHERE digest = $1 AND expires_at > now() RETURNING name;

-- name: begin_sign_in
-- Nothing is written where too many wait: whoever floods the door must not fill the database.
WITH forgotten AS (DELETE FROM console_sign_ins WHERE expires_at < now())
INSERT INTO console_sign_ins (state, browser, issuer, return_to, expires_at)
SELECT $1, $2, $3, $4, now() + make_interval(secs => $5) WHERE (SELECT count(*) FROM console_sign_ins WHERE expires_at > now()) < $6
RETURNING state;

-- name: take_sign_in
DELETE FROM console_sign_ins WHERE state = $1 RETURNING browser, issuer, return_to, expires_at > now() AS in_time;

-- name: open_session
WITH forgotten AS (DELETE FROM console_sessions WHERE expires_at < now())
INSERT INTO console_sessions (id, digest, actor, issuer, address, network, agent, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8));

-- name: find_session
SELECT id, actor, issuer, address, network, agent, created_at, seen_at, expires_at, seen_at < now() - make_interval(secs => $3) AS stale
FROM console_sessions WHERE digest = $1 AND expires_at > now() AND seen_at > now() - make_interval(secs => $2);

-- name: touch_session
UPDATE console_sessions SET seen_at = now() WHERE digest = $1;

-- name: end_session
DELETE FROM console_sessions WHERE id = $1 RETURNING actor;

-- name: end_sessions_of
DELETE FROM console_sessions WHERE actor = $1;

-- name: end_all_sessions
WITH links AS (DELETE FROM console_links), sign_ins AS (DELETE FROM console_sign_ins)
DELETE FROM console_sessions;

-- name: list_sessions
SELECT id, actor, issuer, address, network, agent, created_at, seen_at, expires_at
FROM console_sessions WHERE expires_at > now() AND seen_at > now() - make_interval(secs => $1) ORDER BY seen_at DESC, id LIMIT $2;

-- name: search_accounts
-- A part of the name; ids and codes are found each by an index of their own.
SELECT * FROM accounts
WHERE ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR name ILIKE $3)
ORDER BY id DESC LIMIT $4;

-- name: read_audit
SELECT id, at, actor, action, detail FROM audit
WHERE ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR action = $3)
    AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
ORDER BY id DESC LIMIT $6;

-- name: audit_of_account
SELECT id, at, actor, action, detail FROM audit WHERE detail ? 'account' AND detail ->> 'account' = $1 ORDER BY id DESC LIMIT $2;

-- name: owner_of
SELECT public_id FROM accounts
WHERE id = (SELECT account_id FROM tokens WHERE token_id = $1 UNION ALL SELECT account_id FROM ingest_keys WHERE key_id = $1 LIMIT 1);

-- name: list_rate_cards
SELECT hash, loaded_at FROM rate_cards WHERE ($1::timestamptz IS NULL OR loaded_at < $1) ORDER BY loaded_at DESC, hash LIMIT $2;

-- name: rate_card_before
SELECT hash FROM rate_cards WHERE loaded_at < (SELECT loaded_at FROM rate_cards WHERE hash = $1) ORDER BY loaded_at DESC, hash LIMIT 1;

-- name: name_of_link
SELECT name FROM console_links WHERE digest = $1 AND expires_at > now();
