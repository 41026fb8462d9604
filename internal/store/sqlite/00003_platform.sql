CREATE TABLE users (
    id       TEXT NOT NULL PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    display  TEXT NOT NULL,
    password TEXT NOT NULL,
    admin    BOOLEAN NOT NULL,
    disabled BOOLEAN NOT NULL,
    created  TIMESTAMP NOT NULL
);

CREATE TABLE identities (
    issuer  TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    created TIMESTAMP NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE passkeys (
    id         TEXT NOT NULL PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id),
    label      TEXT NOT NULL,
    credential TEXT NOT NULL,
    created    TIMESTAMP NOT NULL
);
CREATE INDEX passkeys_user ON passkeys (user_id);

CREATE TABLE orgs (
    name    TEXT NOT NULL PRIMARY KEY,
    tier    TEXT NOT NULL CHECK (tier IN ('free', 'team', 'enterprise')),
    created TIMESTAMP NOT NULL
);

CREATE TABLE members (
    org     TEXT NOT NULL REFERENCES orgs (name),
    user_id TEXT NOT NULL REFERENCES users (id),
    role    TEXT NOT NULL CHECK (role IN ('owner', 'maintainer', 'member', 'auditor')),
    created TIMESTAMP NOT NULL,
    PRIMARY KEY (org, user_id)
);
CREATE INDEX members_user ON members (user_id);

CREATE TABLE tokens (
    id      TEXT NOT NULL PRIMARY KEY,
    hash    TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id),
    org     TEXT REFERENCES orgs (name),
    label   TEXT NOT NULL,
    scopes  TEXT NOT NULL,
    created TIMESTAMP NOT NULL,
    expires TIMESTAMP NOT NULL,
    used    TIMESTAMP,
    revoked TIMESTAMP
);
CREATE INDEX tokens_user ON tokens (user_id);

CREATE TABLE links (
    hash    TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL CHECK (purpose IN ('setup', 'invite', 'password')),
    user_id TEXT REFERENCES users (id),
    org     TEXT REFERENCES orgs (name),
    role    TEXT NOT NULL,
    created TIMESTAMP NOT NULL,
    expires TIMESTAMP NOT NULL,
    used    TIMESTAMP
);

CREATE TABLE branches (
    org     TEXT NOT NULL,
    name    TEXT NOT NULL,
    branch  TEXT NOT NULL,
    head    TEXT NOT NULL REFERENCES commits (id),
    created TIMESTAMP NOT NULL,
    PRIMARY KEY (org, name, branch),
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);

CREATE TABLE settings (
    org            TEXT NOT NULL,
    name           TEXT NOT NULL,
    public         BOOLEAN NOT NULL,
    require_secure BOOLEAN NOT NULL,
    PRIMARY KEY (org, name),
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);

CREATE TABLE waivers (
    id      TEXT NOT NULL PRIMARY KEY,
    org     TEXT NOT NULL,
    name    TEXT NOT NULL,
    purl    TEXT NOT NULL,
    owner   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    created TIMESTAMP NOT NULL,
    expires TIMESTAMP NOT NULL,
    ended   TIMESTAMP,
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);
CREATE INDEX waivers_project ON waivers (org, name);

CREATE TABLE runs (
    id       TEXT NOT NULL PRIMARY KEY,
    org      TEXT NOT NULL,
    name     TEXT NOT NULL,
    "commit" TEXT NOT NULL REFERENCES commits (id),
    asked    TEXT NOT NULL,
    retry    BOOLEAN NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    message  TEXT NOT NULL,
    created  TIMESTAMP NOT NULL,
    started  TIMESTAMP,
    finished TIMESTAMP,
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);
CREATE INDEX runs_project ON runs (org, name, created);
CREATE INDEX runs_state ON runs (state);

CREATE TABLE audit (
    seq     INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    at      TIMESTAMP NOT NULL,
    actor   TEXT NOT NULL,
    via     TEXT NOT NULL,
    address TEXT NOT NULL,
    org     TEXT NOT NULL,
    project TEXT NOT NULL,
    action  TEXT NOT NULL,
    object  TEXT NOT NULL,
    detail  TEXT NOT NULL
);
CREATE INDEX audit_org ON audit (org, seq);

CREATE TABLE sessions (
    hash    TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    agent   TEXT NOT NULL,
    created TIMESTAMP NOT NULL,
    seen    TIMESTAMP NOT NULL,
    expires TIMESTAMP NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);

-- Organizations that are there already were made on this data directory.
INSERT INTO orgs (name, tier, created) SELECT org, 'enterprise', MIN(created) FROM projects GROUP BY org;

CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER users_no_delete BEFORE DELETE ON users BEGIN SELECT RAISE(ABORT, 'users are disabled, not deleted: the audit log names them'); END;
CREATE TRIGGER orgs_no_delete BEFORE DELETE ON orgs BEGIN SELECT RAISE(ABORT, 'organizations are not deleted'); END;
CREATE TRIGGER tokens_no_delete BEFORE DELETE ON tokens BEGIN SELECT RAISE(ABORT, 'tokens are revoked, not deleted'); END;
CREATE TRIGGER waivers_no_delete BEFORE DELETE ON waivers BEGIN SELECT RAISE(ABORT, 'waivers are ended, not deleted'); END;
CREATE TRIGGER runs_no_delete BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'runs are ended, not deleted'); END;
