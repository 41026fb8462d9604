package e2e

import (
	"bytes"
	"testing"

	"hallmark/internal/store/pgtest"
)

// TestPlatformOnPostgres is TestPlatform with the rows in PostgreSQL: real builds in
// a server, the stock client, a restart, fsck.
func TestPlatformOnPostgres(t *testing.T) {
	need(t)
	server := pgtest.Start(t)
	where := server.Fresh()
	wayOfATeam(t, func(_, secret string) bool {
		dump, err := server.Dump(t)
		if err != nil || !bytes.Contains(dump, []byte("e2e-good")) {
			t.Errorf("the database's dump has %d bytes: %v", len(dump), err)
		}
		return bytes.Contains(dump, []byte(secret))
	}, "HALLMARK_DATABASE="+where)
}
