-- What a run is for that is not the build of its whole commit: one package, or an
-- artifact of the commit once more. A run without a row builds its commit.
CREATE TABLE tasks (
    run       TEXT NOT NULL PRIMARY KEY REFERENCES runs (id),
    kind      TEXT NOT NULL CHECK (kind IN ('build', 'rebuild')),
    what      TEXT NOT NULL,
    at        TIMESTAMP,
    overrides TEXT,
    result    TEXT
);
