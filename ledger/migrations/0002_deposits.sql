-- Deposits on Solana: the vault's moves as the chain had them, and what became of each.
--
-- Everything here but claims and reports can be read from the chain again; the money itself is in the journal.

-- The Solana Pay reference of an account: nobody's key, only a mark on a payment. The bytes spell
-- "level5 deposit reference" and a zero; ledger/deposit_values.py computes the same.
ALTER TABLE accounts ADD COLUMN reference bytea NOT NULL GENERATED ALWAYS AS (
    sha256('\x6c6576656c35206465706f736974207265666572656e636500'::bytea || decode(deposit_code, 'hex'))) STORED;
CREATE UNIQUE INDEX accounts_by_reference ON accounts (reference);

CREATE TABLE vaults (
    genesis          text NOT NULL,
    address          text NOT NULL,
    owner            text NOT NULL,
    mint             text NOT NULL,
    token_program    text NOT NULL,
    opening          bigint NOT NULL CHECK (opening >= 0),
    whole_history    boolean NOT NULL,
    opened           boolean NOT NULL DEFAULT false,
    balance          bigint NOT NULL DEFAULT 0,
    start_signature  text,
    start_slot       bigint NOT NULL DEFAULT 0,
    cursor_signature text,
    cursor_slot      bigint NOT NULL DEFAULT 0,
    cursor_balance   bigint NOT NULL CHECK (cursor_balance >= 0),
    stopped          text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    single           boolean NOT NULL DEFAULT true UNIQUE CHECK (single),
    PRIMARY KEY (genesis, address)
) WITH (fillfactor = 50);
COMMENT ON COLUMN vaults.opened IS 'the opening is in the journal: true from the first page on';
COMMENT ON COLUMN vaults.balance IS 'what the journal has: the opening and all moves, in whatever order they were read';
COMMENT ON COLUMN vaults.cursor_balance IS 'balance behind the cursor''s transaction; below the balance only while a history is read again';
COMMENT ON COLUMN vaults.stopped IS 'why nothing is credited, null where crediting goes on';

CREATE TABLE vault_moves (
    genesis     text NOT NULL,
    signature   text NOT NULL,
    vault       text NOT NULL,
    slot        bigint NOT NULL CHECK (slot >= 0),
    block_time  timestamptz,
    pre         bigint NOT NULL CHECK (pre >= 0),
    post        bigint NOT NULL CHECK (post >= 0),
    kind        text NOT NULL,
    journal_seq bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (genesis, signature, vault),
    FOREIGN KEY (genesis, vault) REFERENCES vaults (genesis, address),
    CONSTRAINT kind_has_its_sign CHECK (CASE kind WHEN 'withdrawal' THEN post < pre WHEN 'arrival' THEN post > pre WHEN 'dust' THEN post > pre ELSE false END)
);
CREATE INDEX vault_moves_by_slot ON vault_moves (slot);
COMMENT ON COLUMN vault_moves.journal_seq IS 'its row in the house shard; the dust of one page shares a row';

CREATE TABLE deposits (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    genesis      text NOT NULL,
    signature    text NOT NULL,
    vault        text NOT NULL,
    key          text NOT NULL GENERATED ALWAYS AS ('deposit:' || genesis || ':' || signature || ':' || vault) STORED UNIQUE,
    slot         bigint NOT NULL,
    amount       bigint NOT NULL CHECK (amount > 0),
    block_time   timestamptz,
    senders      text[] NOT NULL,
    deposit_code text,
    source       text NOT NULL,
    aside        text NOT NULL,
    actor        text NOT NULL DEFAULT 'chainwatch',
    account_id   bigint REFERENCES accounts (id),
    state        text NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    credited_at  timestamptz,
    FOREIGN KEY (genesis, signature, vault) REFERENCES vault_moves (genesis, signature, vault),
    CONSTRAINT state_is_whole CHECK (CASE state
        WHEN 'aside' THEN aside <> '' AND account_id IS NULL AND credited_at IS NULL
        WHEN 'due' THEN aside = '' AND account_id IS NOT NULL AND credited_at IS NULL
        WHEN 'credited' THEN aside = '' AND account_id IS NOT NULL AND credited_at IS NOT NULL
        ELSE false END)
);
CREATE INDEX deposits_by_signature ON deposits (signature);
CREATE INDEX deposits_due ON deposits (id) WHERE state = 'due';
CREATE INDEX deposits_aside ON deposits (id) WHERE state = 'aside';
CREATE INDEX deposits_of_unknown_code ON deposits (deposit_code) WHERE state = 'aside' AND aside = 'unknown_code';
CREATE INDEX deposits_by_account ON deposits (account_id, id);
-- Credits, to be compared with the deposits they are of.
CREATE INDEX changes_of_deposits ON changes_due (key) WHERE key LIKE 'deposit:%';

CREATE TABLE pending_deposits (
    genesis      text NOT NULL,
    vault        text NOT NULL,
    signature    text NOT NULL,
    slot         bigint NOT NULL,
    amount       bigint NOT NULL CHECK (amount > 0),
    deposit_code text,
    seen_at      bigint NOT NULL,
    PRIMARY KEY (genesis, vault, signature)
);
COMMENT ON COLUMN pending_deposits.seen_at IS 'milliseconds since the epoch';

CREATE TABLE chain_status (
    single                 boolean PRIMARY KEY DEFAULT true CHECK (single),
    state                  text NOT NULL,
    reasons                text[] NOT NULL,
    finalized_slot         bigint NOT NULL,
    lag_seconds            double precision NOT NULL,
    backlog                bigint NOT NULL,
    oldest_pending_seconds double precision NOT NULL,
    vault_on_chain         bigint,
    updated_at             bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE claims (
    id         text PRIMARY KEY,
    deposit_id bigint NOT NULL REFERENCES deposits (id),
    account_id bigint NOT NULL REFERENCES accounts (id),
    text       text NOT NULL,
    nonce      text NOT NULL UNIQUE,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    spent_at   timestamptz
);
CREATE INDEX claims_by_expiry ON claims (expires_at);

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON vault_moves FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON vault_moves FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What the chain said of a deposit stays, and a credit is final; only who gets it is decided later.
CREATE FUNCTION guard_deposit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'credited'
        OR (NEW.id, NEW.genesis, NEW.signature, NEW.vault, NEW.slot, NEW.amount, NEW.block_time, NEW.senders, NEW.deposit_code, NEW.recorded_at)
        IS DISTINCT FROM
        (OLD.id, OLD.genesis, OLD.signature, OLD.vault, OLD.slot, OLD.amount, OLD.block_time, OLD.senders, OLD.deposit_code, OLD.recorded_at)
    THEN
        RAISE EXCEPTION 'a deposit is what the chain says, and is credited once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guarded BEFORE UPDATE ON deposits FOR EACH ROW EXECUTE FUNCTION guard_deposit();
CREATE TRIGGER immutable BEFORE DELETE ON deposits FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON deposits FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The chain that the books belong to is known from the first vault on, and never another one.
CREATE FUNCTION guard_genesis() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.genesis <> '' AND NEW.genesis <> OLD.genesis THEN
        RAISE EXCEPTION 'these books belong to chain %', OLD.genesis USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guarded BEFORE UPDATE ON instance FOR EACH ROW EXECUTE FUNCTION guard_genesis();
