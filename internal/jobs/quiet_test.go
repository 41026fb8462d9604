package jobs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// The same complaint is written once a minute, with how often it came.
func TestRepeatedLines(t *testing.T) {
	var b bytes.Buffer
	l := quiet(slog.New(slog.NewTextHandler(&b, nil)))
	now := time.Now()
	l.Handler().(*collapsed).seen.now = func() time.Time { return now }
	l.Info("chatter")
	for i := range 100 {
		l.With("client", "x").Error("the database is away", "attempt", i)
		now = now.Add(time.Second)
	}
	l.Error("something else")
	got := b.String()
	if n := strings.Count(got, "the database is away"); n != 2 {
		t.Errorf("it was written %d times:\n%s", n, got)
	}
	if !strings.Contains(got, "again=59") || strings.Contains(got, "chatter") || !strings.Contains(got, "something else") {
		t.Error(got)
	}
}
