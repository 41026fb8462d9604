-- +goose Up
CREATE TABLE projects (
    org     TEXT NOT NULL,
    name    TEXT NOT NULL,
    head    TEXT REFERENCES commits (id),
    created TIMESTAMP NOT NULL,
    PRIMARY KEY (org, name)
);

CREATE TABLE commits (
    id       TEXT NOT NULL PRIMARY KEY,
    org      TEXT NOT NULL,
    name     TEXT NOT NULL,
    parent   TEXT REFERENCES commits (id),
    document TEXT NOT NULL,
    created  TIMESTAMP NOT NULL,
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);
CREATE INDEX commits_project ON commits (org, name);

CREATE TABLE solutions (
    "commit" TEXT NOT NULL PRIMARY KEY REFERENCES commits (id),
    plan     TEXT NOT NULL,
    answers  TEXT,
    created  TIMESTAMP NOT NULL
);

CREATE TABLE steps (
    id       TEXT NOT NULL PRIMARY KEY,
    purl     TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX steps_purl ON steps (purl);

CREATE TABLE builds (
    step     TEXT NOT NULL REFERENCES steps (id),
    seq      INTEGER NOT NULL CHECK (seq > 0),
    id       TEXT NOT NULL UNIQUE,
    purpose  TEXT NOT NULL,
    outcome  TEXT NOT NULL,
    builder  TEXT NOT NULL,
    record   TEXT NOT NULL,
    output   TEXT,
    started  TIMESTAMP NOT NULL,
    finished TIMESTAMP NOT NULL,
    PRIMARY KEY (step, seq)
);
CREATE INDEX builds_output ON builds (output);

CREATE TABLE rebuilds (
    step     TEXT NOT NULL REFERENCES steps (id),
    seq      INTEGER NOT NULL CHECK (seq > 0),
    outcome  TEXT NOT NULL,
    document TEXT NOT NULL,
    previous TEXT,
    created  TIMESTAMP NOT NULL,
    PRIMARY KEY (step, seq)
);

CREATE TABLE files (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL,
    purl   TEXT NOT NULL,
    name   TEXT NOT NULL,
    size   INTEGER NOT NULL CHECK (size >= 0),
    kind   TEXT NOT NULL CHECK (kind IN ('built', 'published', 'source')),
    step   TEXT REFERENCES steps (id)
);
CREATE UNIQUE INDEX files_once ON files (digest, purl, name, kind, COALESCE(step, ''));
CREATE INDEX files_purl ON files (purl);

CREATE TABLE evidence (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    subject        TEXT NOT NULL,
    name           TEXT NOT NULL,
    predicate_type TEXT NOT NULL,
    blob           TEXT NOT NULL,
    log_index      INTEGER,
    step           TEXT REFERENCES steps (id),
    created        TIMESTAMP NOT NULL,
    UNIQUE (subject, name, blob)
);

-- What was recorded stays recorded: nothing but a project's head ever changes.
-- +goose StatementBegin
CREATE TRIGGER commits_no_update BEFORE UPDATE ON commits BEGIN SELECT RAISE(ABORT, 'commits are immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER commits_no_delete BEFORE DELETE ON commits BEGIN SELECT RAISE(ABORT, 'commits are immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER solutions_no_update BEFORE UPDATE ON solutions BEGIN SELECT RAISE(ABORT, 'solutions are written once'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER solutions_no_delete BEFORE DELETE ON solutions BEGIN SELECT RAISE(ABORT, 'solutions are written once'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER steps_no_update BEFORE UPDATE ON steps BEGIN SELECT RAISE(ABORT, 'steps are immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER steps_no_delete BEFORE DELETE ON steps BEGIN SELECT RAISE(ABORT, 'steps are immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER builds_no_update BEFORE UPDATE ON builds BEGIN SELECT RAISE(ABORT, 'builds are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER builds_no_delete BEFORE DELETE ON builds BEGIN SELECT RAISE(ABORT, 'builds are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER rebuilds_no_update BEFORE UPDATE ON rebuilds BEGIN SELECT RAISE(ABORT, 'rebuilds are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER rebuilds_no_delete BEFORE DELETE ON rebuilds BEGIN SELECT RAISE(ABORT, 'rebuilds are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER files_no_update BEFORE UPDATE ON files BEGIN SELECT RAISE(ABORT, 'files are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER files_no_delete BEFORE DELETE ON files BEGIN SELECT RAISE(ABORT, 'files are append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER evidence_no_update BEFORE UPDATE ON evidence BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER evidence_no_delete BEFORE DELETE ON evidence BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END;
-- +goose StatementEnd
