-- Who may use the operator's console: sessions, links that open one, and sign-ins that wait for their issuer.
--
-- Of every secret only the SHA-256 is here, so that a copy of the database opens nothing. All of it may be lost: whoever is
-- signed in then signs in again.

CREATE TABLE console_links (
    digest     bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE console_links IS 'a link that was used is deleted; the audit has both';

CREATE TABLE console_sign_ins (
    state      bytea PRIMARY KEY CHECK (octet_length(state) = 32),
    browser    bytea NOT NULL CHECK (octet_length(browser) = 32),
    issuer     text NOT NULL,
    return_to  text NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON COLUMN console_sign_ins.browser IS 'digest of the cookie of the browser that began it';

CREATE TABLE console_sessions (
    id         text PRIMARY KEY,
    digest     bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    actor      text NOT NULL,
    issuer     text,
    address    text,
    network    text NOT NULL,
    agent      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
COMMENT ON COLUMN console_sessions.issuer IS 'who vouched for the address; both null where a link opened the session';

CREATE INDEX audit_by_action ON audit (action, id);
CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_account ON audit ((detail ->> 'account'), id) WHERE detail ? 'account';
