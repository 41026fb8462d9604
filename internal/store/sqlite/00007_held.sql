-- What belongs to projects: evidence about it needs a reader of one of them. What has
-- a row with org '*' is everybody's all the same; one with '-' is the operator's.
CREATE TABLE held (
    thing   TEXT NOT NULL,
    org     TEXT NOT NULL,
    project TEXT NOT NULL,
    PRIMARY KEY (thing, org, project)
);
CREATE TRIGGER held_no_update BEFORE UPDATE ON held BEGIN SELECT RAISE(ABORT, 'what belongs to a project is never forgotten'); END;
CREATE TRIGGER held_no_delete BEFORE DELETE ON held BEGIN SELECT RAISE(ABORT, 'what belongs to a project is never forgotten'); END;
