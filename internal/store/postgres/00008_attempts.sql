-- A go at a run that has ended, and what it built (a blob); without one that is not
-- known.
CREATE TABLE attempts (
    run      TEXT COLLATE "C" NOT NULL REFERENCES runs (id),
    seq      BIGINT NOT NULL CHECK (seq > 0),
    state    TEXT COLLATE "C" NOT NULL CHECK (state IN ('succeeded', 'failed', 'cancelled', 'cut-off')),
    message  TEXT COLLATE "C" NOT NULL,
    started  TIMESTAMPTZ NOT NULL,
    ended    TIMESTAMPTZ NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run, seq)
);
CREATE TRIGGER attempts_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON attempts FOR EACH STATEMENT EXECUTE FUNCTION refuse('an attempt that has ended stays as it was');
CREATE INDEX runs_commit ON runs ("commit");
