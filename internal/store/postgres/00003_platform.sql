CREATE TABLE users (
    id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name     TEXT COLLATE "C" NOT NULL UNIQUE,
    display  TEXT COLLATE "C" NOT NULL,
    password TEXT COLLATE "C" NOT NULL,
    admin    BOOLEAN NOT NULL,
    disabled BOOLEAN NOT NULL,
    created  TIMESTAMPTZ NOT NULL
);

CREATE TABLE identities (
    issuer  TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    created TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE passkeys (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    label      TEXT COLLATE "C" NOT NULL,
    credential TEXT COLLATE "C" NOT NULL,
    created    TIMESTAMPTZ NOT NULL
);
CREATE INDEX passkeys_user ON passkeys (user_id);

CREATE TABLE orgs (
    name    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tier    TEXT COLLATE "C" NOT NULL CHECK (tier IN ('free', 'team', 'enterprise')),
    created TIMESTAMPTZ NOT NULL
);

CREATE TABLE members (
    org     TEXT COLLATE "C" NOT NULL REFERENCES orgs (name),
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    role    TEXT COLLATE "C" NOT NULL CHECK (role IN ('owner', 'maintainer', 'member', 'auditor')),
    created TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org, user_id)
);
CREATE INDEX members_user ON members (user_id);

CREATE TABLE tokens (
    id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    hash    TEXT COLLATE "C" NOT NULL UNIQUE,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    org     TEXT COLLATE "C" REFERENCES orgs (name),
    label   TEXT COLLATE "C" NOT NULL,
    scopes  TEXT COLLATE "C" NOT NULL,
    created TIMESTAMPTZ NOT NULL,
    expires TIMESTAMPTZ NOT NULL,
    used    TIMESTAMPTZ,
    revoked TIMESTAMPTZ
);
CREATE INDEX tokens_user ON tokens (user_id);

CREATE TABLE links (
    hash    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    purpose TEXT COLLATE "C" NOT NULL CHECK (purpose IN ('setup', 'invite', 'password')),
    user_id TEXT COLLATE "C" REFERENCES users (id),
    org     TEXT COLLATE "C" REFERENCES orgs (name),
    role    TEXT COLLATE "C" NOT NULL,
    created TIMESTAMPTZ NOT NULL,
    expires TIMESTAMPTZ NOT NULL,
    used    TIMESTAMPTZ
);

CREATE TABLE branches (
    org     TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    branch  TEXT COLLATE "C" NOT NULL,
    head    TEXT COLLATE "C" NOT NULL REFERENCES commits (id),
    created TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org, name, branch),
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);

CREATE TABLE settings (
    org            TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    public         BOOLEAN NOT NULL,
    require_secure BOOLEAN NOT NULL,
    PRIMARY KEY (org, name),
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);

CREATE TABLE waivers (
    id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    org     TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    purl    TEXT COLLATE "C" NOT NULL,
    owner   TEXT COLLATE "C" NOT NULL,
    reason  TEXT COLLATE "C" NOT NULL,
    created TIMESTAMPTZ NOT NULL,
    expires TIMESTAMPTZ NOT NULL,
    ended   TIMESTAMPTZ,
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);
CREATE INDEX waivers_project ON waivers (org, name);

CREATE TABLE runs (
    id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    org      TEXT COLLATE "C" NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    "commit" TEXT COLLATE "C" NOT NULL REFERENCES commits (id),
    asked    TEXT COLLATE "C" NOT NULL,
    retry    BOOLEAN NOT NULL,
    state    TEXT COLLATE "C" NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    message  TEXT COLLATE "C" NOT NULL,
    created  TIMESTAMPTZ NOT NULL,
    started  TIMESTAMPTZ,
    finished TIMESTAMPTZ,
    FOREIGN KEY (org, name) REFERENCES projects (org, name)
);
CREATE INDEX runs_project ON runs (org, name, created);
CREATE INDEX runs_state ON runs (state);

CREATE TABLE audit (
    seq     BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    at      TIMESTAMPTZ NOT NULL,
    actor   TEXT COLLATE "C" NOT NULL,
    via     TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    org     TEXT COLLATE "C" NOT NULL,
    project TEXT COLLATE "C" NOT NULL,
    action  TEXT COLLATE "C" NOT NULL,
    object  TEXT COLLATE "C" NOT NULL,
    detail  TEXT COLLATE "C" NOT NULL
);
CREATE INDEX audit_org ON audit (org, seq);

CREATE TABLE sessions (
    hash    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    agent   TEXT COLLATE "C" NOT NULL,
    created TIMESTAMPTZ NOT NULL,
    seen    TIMESTAMPTZ NOT NULL,
    expires TIMESTAMPTZ NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);

-- Organizations that are there already were made on this data directory.
INSERT INTO orgs (name, tier, created) SELECT org, 'enterprise', MIN(created) FROM projects GROUP BY org;

CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse('the audit log is append-only');
CREATE TRIGGER users_no_delete BEFORE DELETE OR TRUNCATE ON users FOR EACH STATEMENT EXECUTE FUNCTION refuse('users are disabled, not deleted: the audit log names them');
CREATE TRIGGER orgs_no_delete BEFORE DELETE OR TRUNCATE ON orgs FOR EACH STATEMENT EXECUTE FUNCTION refuse('organizations are not deleted');
CREATE TRIGGER tokens_no_delete BEFORE DELETE OR TRUNCATE ON tokens FOR EACH STATEMENT EXECUTE FUNCTION refuse('tokens are revoked, not deleted');
CREATE TRIGGER waivers_no_delete BEFORE DELETE OR TRUNCATE ON waivers FOR EACH STATEMENT EXECUTE FUNCTION refuse('waivers are ended, not deleted');
CREATE TRIGGER runs_no_delete BEFORE DELETE OR TRUNCATE ON runs FOR EACH STATEMENT EXECUTE FUNCTION refuse('runs are ended, not deleted');
