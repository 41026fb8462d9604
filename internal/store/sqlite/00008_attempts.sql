-- A go at a run that has ended, and what it built (a blob); without one that is not
-- known.
CREATE TABLE attempts (
    run      TEXT NOT NULL REFERENCES runs (id),
    seq      INTEGER NOT NULL CHECK (seq > 0),
    state    TEXT NOT NULL CHECK (state IN ('succeeded', 'failed', 'cancelled', 'cut-off')),
    message  TEXT NOT NULL,
    started  TIMESTAMP NOT NULL,
    ended    TIMESTAMP NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (run, seq)
);
CREATE TRIGGER attempts_no_update BEFORE UPDATE ON attempts BEGIN SELECT RAISE(ABORT, 'an attempt that has ended stays as it was'); END;
CREATE TRIGGER attempts_no_delete BEFORE DELETE ON attempts BEGIN SELECT RAISE(ABORT, 'an attempt that has ended stays as it was'); END;
CREATE INDEX runs_commit ON runs ("commit");
