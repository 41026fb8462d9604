CREATE TABLE journal (
    seq BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    tbl TEXT COLLATE "C" NOT NULL,
    row TEXT COLLATE "C" NOT NULL,
    sum TEXT COLLATE "C" NOT NULL,
    mac TEXT COLLATE "C" NOT NULL
);
CREATE INDEX journal_row ON journal (tbl, row);

-- Batches of signed statements on their way into the log; a row is taken out
-- when all of its statements have theirs in evidence.
CREATE TABLE pending (
    blob    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created TIMESTAMPTZ NOT NULL
);

CREATE TRIGGER journal_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON journal FOR EACH STATEMENT EXECUTE FUNCTION refuse('the journal is append-only');
CREATE TRIGGER pending_no_update BEFORE UPDATE ON pending FOR EACH STATEMENT EXECUTE FUNCTION refuse('batches are immutable');
