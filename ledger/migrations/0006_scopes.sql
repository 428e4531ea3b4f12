-- Tokens that may look at an account and do nothing else; and what a workspace is meant to cost a month.

ALTER TABLE tokens
    ADD COLUMN scope text NOT NULL DEFAULT 'full' CHECK (scope IN ('full', 'read_only')),
    ADD COLUMN hint text;
COMMENT ON COLUMN tokens.hint IS 'the end of the text, so that a person can tell tokens apart; null for those that were made before';

ALTER TABLE workspaces ADD COLUMN budget bigint CHECK (budget > 0);
COMMENT ON COLUMN workspaces.budget IS 'microunits a month (UTC) from which on its owner is to be warned; nothing is refused for it';
