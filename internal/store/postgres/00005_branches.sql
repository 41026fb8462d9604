-- The branch that a project's head is the head of; a project without a row: main.
CREATE TABLE default_branches (
    org    TEXT COLLATE "C" NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    branch TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (org, name),
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);
