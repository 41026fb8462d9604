-- Where a run stands in the queue; one without a row: in the middle of both.
CREATE TABLE priorities (
    run    TEXT NOT NULL PRIMARY KEY REFERENCES runs (id),
    level  INTEGER NOT NULL CHECK (level BETWEEN -1 AND 1),
    "over" INTEGER NOT NULL CHECK ("over" BETWEEN -1 AND 1)
);
