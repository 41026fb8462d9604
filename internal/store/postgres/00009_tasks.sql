-- What a run is for that is not the build of its whole commit: one package, or an
-- artifact of the commit once more. A run without a row builds its commit.
CREATE TABLE tasks (
    run       TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES runs (id),
    kind      TEXT COLLATE "C" NOT NULL CHECK (kind IN ('build', 'rebuild')),
    what      TEXT COLLATE "C" NOT NULL,
    at        TIMESTAMPTZ,
    overrides TEXT COLLATE "C",
    result    TEXT COLLATE "C"
);
