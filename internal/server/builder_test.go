package server

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// replaced is a backend whose builder's key is out of use.
type replaced struct {
	Backend
	until   *time.Time
	revoked *Revoked
}

func (b replaced) Builder(ctx context.Context, key, mode string) (Builder, error) {
	out, err := b.Backend.Builder(ctx, key, mode)
	out.Until, out.Revoked = b.until, b.revoked
	return out, err
}

// The page of a builder says when its key went out of use, and from when on it is not
// believed.
func TestBuilderOfAnOldKey(t *testing.T) {
	at := time.Date(2026, 10, 2, 3, 4, 0, 0, time.UTC)
	for want, b := range map[string]replaced{
		"was replaced 2026-10-02 03:04 UTC":                                                {until: &at},
		"nothing that it signed since 2026-10-02 03:04 UTC is believed here (a &lt;b&gt;)": {until: &at, revoked: &Revoked{Since: at, Why: "a <b>"}},
	} {
		b.Backend = sample(t)
		ts := serve(t, b)
		r := httptest.NewRequest("GET", "/builder/"+testKey+"/hermetic", nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		ts.Config.Handler.ServeHTTP(w, r)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d: no %q in %s", w.Code, want, w.Body.String())
		}
	}
}
