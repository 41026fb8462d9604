package server

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"hallmark/internal/api"
)

// described is what the tests read of the API's description.
type described struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Summary     string
		Parameters  []struct {
			Name, In string
			Required bool
		}
		RequestBody *struct{}
		Responses   map[string]struct{ Content map[string]json.RawMessage }
		Security    *[]map[string][]string
	}
	Components struct {
		Schemas         map[string]json.RawMessage
		SecuritySchemes map[string]json.RawMessage
	}
}

func description(t *testing.T) described {
	t.Helper()
	ts := serve(t, sample(t))
	for _, path := range []string{"/openapi-3.0.json", "/openapi.yaml"} {
		if res, _ := ask(t, ts, "GET", path); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	res, err := http.Get(ts.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	var d described
	if err != nil || json.Unmarshal(b, &d) != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return d
}

// TestOperationsAreDescribed: each operation has a stable name, all its parameters,
// its errors as problems, and says who may ask.
func TestOperationsAreDescribed(t *testing.T) {
	d := description(t)
	seen := map[string]bool{}
	for path, ops := range d.Paths {
		for method, o := range ops {
			at := method + " " + path
			if !regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`).MatchString(o.OperationID) || seen[o.OperationID] || o.Summary == "" {
				t.Errorf("%s: operation %q, %q", at, o.OperationID, o.Summary)
			}
			seen[o.OperationID] = true
			for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				found := false
				for _, p := range o.Parameters {
					found = found || p.Name == m[1] && p.In == "path" && p.Required
				}
				if !found {
					t.Errorf("%s: the parameter %s is not described: %+v", at, m[1], o.Parameters)
				}
			}
			for _, code := range []string{"400", "401", "403", "404", "500"} {
				if _, ok := o.Responses[code].Content["application/problem+json"]; !ok {
					t.Errorf("%s: %s is not described as a problem", at, code)
				}
			}
			if o.Security == nil || len(*o.Security) == 0 {
				t.Errorf("%s does not say who may ask", at)
				continue
			}
			for _, s := range *o.Security {
				for name := range s {
					if _, ok := d.Components.SecuritySchemes[name]; !ok {
						t.Errorf("%s names the security scheme %q", at, name)
					}
				}
				if _, cookie := s["cookie"]; cookie && method != "get" {
					if _, form := s["form"]; !form {
						t.Errorf("%s: a session needs its form token", at)
					}
				}
			}
		}
	}
	for _, name := range []string{"get-whoami", "create-session", "end-session", "end-other-sessions", "set-password", "get-link", "use-link", "list-tokens", "create-token", "revoke-token",
		"list-sign-in-ways", "begin-passkey-session", "create-passkey-session", "list-passkeys", "begin-passkey", "create-passkey", "remove-passkey", "list-identities", "remove-identity",
		"list-organizations", "create-organization", "get-organization", "set-member", "remove-member", "create-invitation", "get-audit-log", "export-audit-log", "get-platform-audit-log",
		"export-platform-audit-log", "set-tier", "list-users", "set-user", "create-password-link", "list-projects", "create-project", "get-project", "get-status", "get-settings", "set-settings",
		"list-waivers", "create-waiver", "end-waiver", "list-commits", "get-commit", "propose-commit", "create-commit", "revert-to-commit", "get-diff", "get-commit-status", "list-runs", "create-run",
		"get-run", "cancel-run", "watch-runs", "list-steps", "get-running-log", "watch-run", "set-run-priority", "list-queue", "set-queue-priority", "explain-artifact", "ask-gate", "find-log", "get-log-text", "forecast-build", "build-package", "rebuild-artifact", "get-run-result", "get-overrides", "start-inspection", "get-inspection", "end-inspection", "get-seed", "create-seed-candidate", "get-plan", "get-lock", "export-evidence", "list-evidence"} {
		if !seen[name] {
			t.Errorf("the operation %s is gone: names are stable", name)
		}
	}
	var problem struct{ Properties map[string]json.RawMessage }
	if err := json.Unmarshal(d.Components.Schemas["Problem"], &problem); err != nil || problem.Properties["advice"] == nil {
		t.Errorf("problems have no advice: %s", d.Components.Schemas["Problem"])
	}
	if !strings.Contains(string(d.Components.Schemas["StatusRow"]), `"null"`) {
		t.Errorf("rows have no null: %s", d.Components.Schemas["StatusRow"])
	}
}

// TestProblemsOfTheAPI: every error is a problem, also those that no operation
// makes, and none repeats what was sent.
func TestProblemsOfTheAPI(t *testing.T) {
	ts := serve(t, sample(t))
	for _, v := range []struct {
		method, path, body string
		code               int
		typ, advice        string
	}{
		{"GET", "/api/v1/none", "", 404, "not-found", "/openapi.json"},
		{"GET", "/api/v2/projects", "", 404, "not-found", "/openapi.json"},
		{"GET", "/api/v1/projects/acme/none/status", "", 404, "not-found", ""},
		{"GET", "/api/v1/projects/acme/unsolved/status", "", 409, "conflict", "hallmark builds"},
		{"GET", "/api/v1/projects/acme/web/why", "", 422, "usage", ""},
		{"GET", "/api/v1/projects/acme/web/gate?min_secure=101", "", 422, "usage", ""},
		{"GET", "/api/v1/projects/acme/web/log/text", "", 400, "usage", ""},
		{"GET", "/api/v1/evidence/xyz", "", 400, "usage", ""},
		{"GET", "/api/v1/orgs", "", 501, "unsupported", ""},
		{"GET", "/api/v1/tokens", "", 501, "unsupported", ""},
		{"POST", "/api/v1/sessions", `{"name":"ann","password":"hunter2"}`, 405, "usage", ""},
	} {
		r, err := http.NewRequest(v.method, ts.URL+v.path, strings.NewReader(v.body))
		if err != nil {
			t.Fatal(err)
		}
		if v.body == "" {
			r.Body = nil
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || res.StatusCode != v.code || p.Status != v.code || res.Header.Get("Content-Type") != "application/problem+json" ||
			p.Type != api.ProblemType+v.typ || p.Title == "" || p.Detail == "" || !strings.Contains(p.Advice, v.advice) || strings.Contains(string(b), "hunter2") {
			t.Errorf("%s %s: %d %s: %s (%v)", v.method, v.path, res.StatusCode, res.Header.Get("Content-Type"), b, err)
		}
	}
}

// TestGate answers by what the status says.
func TestGate(t *testing.T) {
	ts := serve(t, sample(t))
	for q, want := range map[string]bool{"": true, "?min_secure=40": true, "?min_secure=41": false, "?no_new_unknown=true": false, "?min_secure=0": true} {
		_, body := ask(t, ts, "GET", "/api/v1/projects/acme/web/gate"+q)
		var g api.Gate
		if err := json.Unmarshal([]byte(body), &g); err != nil || g.OK != want || want != (len(g.Says) == 0) || g.PercentSecure == nil || *g.PercentSecure != 40 {
			t.Errorf("%s: %s, %v", q, body, err)
		}
	}
}
