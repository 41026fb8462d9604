-- When a way to sign in was last used, and what its provider calls a person. Nobody
-- could sign in by either before, so that both tables are empty here.
ALTER TABLE passkeys ADD COLUMN used TIMESTAMP;
ALTER TABLE identities ADD COLUMN label TEXT NOT NULL DEFAULT '';
ALTER TABLE identities ADD COLUMN used TIMESTAMP;
CREATE INDEX identities_user ON identities (user_id);
