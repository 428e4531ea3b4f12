-- What the Claude Code hook has read and not yet sent.
CREATE TABLE IF NOT EXISTS transcripts (
    path TEXT PRIMARY KEY,
    offset INTEGER NOT NULL,
    read_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS messages (
    id TEXT NOT NULL,
    model TEXT NOT NULL,
    counts TEXT NOT NULL,
    read_at INTEGER NOT NULL,
    PRIMARY KEY (id, model)
);
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL
);
