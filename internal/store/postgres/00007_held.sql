-- What belongs to projects: evidence about it needs a reader of one of them. What has
-- a row with org '*' is everybody's all the same; one with '-' is the operator's.
CREATE TABLE held (
    thing   TEXT COLLATE "C" NOT NULL,
    org     TEXT COLLATE "C" NOT NULL,
    project TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (thing, org, project)
);
CREATE TRIGGER held_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON held FOR EACH STATEMENT EXECUTE FUNCTION refuse('what belongs to a project is never forgotten');
