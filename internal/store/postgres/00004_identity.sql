-- When a way to sign in was last used, and what its provider calls a person. Nobody
-- could sign in by either before, so that both tables are empty here.
ALTER TABLE passkeys ADD COLUMN used TIMESTAMPTZ;
ALTER TABLE identities ADD COLUMN label TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE identities ADD COLUMN used TIMESTAMPTZ;
CREATE INDEX identities_user ON identities (user_id);
