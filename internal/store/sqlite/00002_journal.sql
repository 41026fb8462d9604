CREATE TABLE journal (
    seq INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    tbl TEXT NOT NULL,
    row TEXT NOT NULL,
    sum TEXT NOT NULL,
    mac TEXT NOT NULL
);
CREATE INDEX journal_row ON journal (tbl, row);

-- Batches of signed statements on their way into the log; a row is taken out
-- when all of its statements have theirs in evidence.
CREATE TABLE pending (
    blob    TEXT NOT NULL PRIMARY KEY,
    created TIMESTAMP NOT NULL
);

CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER pending_no_update BEFORE UPDATE ON pending BEGIN SELECT RAISE(ABORT, 'batches are immutable'); END;
