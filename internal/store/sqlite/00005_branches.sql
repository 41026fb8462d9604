-- The branch that a project's head is the head of; a project without a row: main.
CREATE TABLE default_branches (
    org    TEXT NOT NULL,
    name   TEXT NOT NULL,
    branch TEXT NOT NULL,
    PRIMARY KEY (org, name),
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);
