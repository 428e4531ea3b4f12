-- What providers keep of answers, so that an account may refer to it and nobody else: digests of ids, for thirty days.

CREATE TABLE stored_objects (
    account_id bigint NOT NULL,
    digest     bytea NOT NULL CHECK (octet_length(digest) = 12),
    made_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, digest)
);
CREATE INDEX stored_objects_by_age ON stored_objects USING brin (made_at) WITH (pages_per_range = 16);
COMMENT ON TABLE stored_objects IS 'written with the charge of the answer that made them; each is named in the detail of its journal row too';
