package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/project"
	"hallmark/internal/status"
)

// under is the path of a project's operations.
func under(name string, rest string) (string, error) {
	org, proj, err := project.ParseName(name)
	if err != nil {
		return "", err
	}
	return "/api/v1/projects/" + url.PathEscape(org) + "/" + url.PathEscape(proj) + rest, nil
}

// on adds the branch that is worked on, if it is not the default one, to a query.
func (c *Client) on(key string, q url.Values) url.Values {
	if c.Branch == "" {
		return q
	}
	if q == nil {
		q = url.Values{}
	}
	q.Set(key, c.Branch)
	return q
}

// get asks for a document of a project.
func get[T any](ctx context.Context, c *Client, name, rest string, query url.Values) (T, error) {
	var out T
	path, err := under(name, rest)
	if err == nil {
		err = c.call(ctx, http.MethodGet, path, query, nil, &out)
	}
	return out, err
}

// post has something done to a project.
func post[T any](ctx context.Context, c *Client, name, rest string, body any) (T, error) {
	var out T
	path, err := under(name, rest)
	if err == nil {
		err = c.call(ctx, http.MethodPost, path, nil, body, &out)
	}
	return out, err
}

// slowPost is post for what takes as long as planning takes.
func slowPost[T any](ctx context.Context, c *Client, name, rest string, body any) (T, error) {
	var out T
	path, err := under(name, rest)
	if err == nil {
		err = c.slowly(ctx, http.MethodPost, path, nil, body, &out)
	}
	return out, err
}

// Whoami says who the server takes us for.
func (c *Client) Whoami(ctx context.Context) (api.Whoami, error) {
	var w api.Whoami
	err := c.call(ctx, http.MethodGet, "/api/v1/whoami", nil, nil, &w)
	w.Name, w.Version = Clean(w.Name, 64), Clean(w.Version, 64)
	c.sole.Store(w.SingleUser)
	return w, err
}

// CreateOrg makes an organization that whoever asks owns.
func (c *Client) CreateOrg(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/orgs", nil, map[string]string{"name": name}, nil)
}

// CreateProject makes the project ORG/PROJECT with a first commit that asks for
// nothing as of at.
func (c *Client) CreateProject(ctx context.Context, name string, at time.Time) (api.Project, error) {
	if _, _, err := project.ParseName(name); err != nil {
		return api.Project{}, err
	}
	var out api.Project
	err := c.call(ctx, http.MethodPost, "/api/v1/projects", nil, map[string]any{"project": name, "at_time": at.UTC().Truncate(time.Second)}, &out)
	return out, err
}

// Project gives a project.
func (c *Client) Project(ctx context.Context, name string) (api.Project, error) {
	return get[api.Project](ctx, c, name, "", nil)
}

// Commits lists the project's newest commits, newest first, at most limit.
func (c *Client) Commits(ctx context.Context, name string, limit int) ([]api.Commit, error) {
	out, err := get[struct{ Commits []api.Commit }](ctx, c, name, "/commits", c.on("branch", url.Values{"limit": {strconv.Itoa(limit)}}))
	return out.Commits, err
}

// CommitOf gives a commit by its id.
func (c *Client) CommitOf(ctx context.Context, name, id string) (api.Commit, error) {
	return get[api.Commit](ctx, c, name, "/commits/"+url.PathEscape(id), nil)
}

// Commit changes a project: one commit.
func (c *Client) Commit(ctx context.Context, name string, ch api.Change) (api.Commit, error) {
	if ch.Branch == "" {
		ch.Branch = c.Branch
	}
	out, err := post[api.Committed](ctx, c, name, "/commits", ch)
	return out.Commit, err
}

// Revert makes a commit that asks for what an earlier one, "commit:…", asked for.
func (c *Client) Revert(ctx context.Context, name, to string) (api.Commit, error) {
	out, err := post[api.Committed](ctx, c, name, "/reverts", map[string]string{"commit": to, "branch": c.Branch})
	return out.Commit, err
}

// Status is the status document of a commit, "commit:…"; empty: the newest.
func (c *Client) Status(ctx context.Context, name, commit string) (status.Document, error) {
	if commit != "" {
		return get[status.Document](ctx, c, name, "/commits/"+url.PathEscape(commit)+"/status", nil)
	}
	return get[status.Document](ctx, c, name, "/status", c.on("branch", nil))
}

// Gate asks a gate about the newest commit; min nil: whatever the percentage.
func (c *Client) Gate(ctx context.Context, name string, min *int, noNewUnknown bool) (api.Gate, error) {
	q := url.Values{}
	if min != nil {
		q.Set("min_secure", strconv.Itoa(*min))
	}
	if noNewUnknown {
		q.Set("no_new_unknown", "true")
	}
	return get[api.Gate](ctx, c, name, "/gate", c.on("branch", q))
}

// Why is the way from an artifact to what is missing.
func (c *Client) Why(ctx context.Context, name, artifact string) ([]status.Hop, error) {
	out, err := get[struct{ Hops []status.Hop }](ctx, c, name, "/why", c.on("commit", url.Values{"artifact": {artifact}}))
	return out.Hops, err
}

// Frontier is what of the closure was not built from source.
func (c *Client) Frontier(ctx context.Context, name string) (status.Frontier, error) {
	return get[status.Frontier](ctx, c, name, "/frontier", c.on("commit", url.Values{}))
}

// Build queues a build of the newest commit, or gives the one that is queued.
func (c *Client) Build(ctx context.Context, name string, retry bool) (api.Run, error) {
	return post[api.Run](ctx, c, name, "/runs", map[string]any{"retry": retry, "branch": c.Branch})
}

// Run says how far a run is.
func (c *Client) Run(ctx context.Context, name, id string) (api.Run, error) {
	return get[api.Run](ctx, c, name, "/runs/"+url.PathEscape(id), nil)
}

// Cancel ends a run.
func (c *Client) Cancel(ctx context.Context, name, id string) error {
	path, err := under(name, "/runs/"+url.PathEscape(id)+"/cancel")
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, nil, nil, nil)
}

// Plan is the canonical JSON of what the newest commit was solved to.
func (c *Client) Plan(ctx context.Context, name string) ([]byte, error) {
	return c.of(ctx, name, "/plan", c.on("commit", nil))
}

// Lock is hallmark.lock of the newest commit.
func (c *Client) Lock(ctx context.Context, name string) ([]byte, error) {
	return c.of(ctx, name, "/lock", c.on("commit", nil))
}

// TrustedRoot is the server's trusted_root.json.
func (c *Client) TrustedRoot(ctx context.Context) ([]byte, error) {
	return c.document(ctx, "/trusted_root.json", nil)
}

// Log finds a build by an artifact, a step or its id.
func (c *Client) Log(ctx context.Context, name, what string) (api.Log, error) {
	return get[api.Log](ctx, c, name, "/log", c.on("commit", url.Values{"artifact": {what}}))
}

// LogText is a build's whole log, which is foreign bytes.
func (c *Client) LogText(ctx context.Context, name, what string) ([]byte, error) {
	return c.of(ctx, name, "/log/text", c.on("commit", url.Values{"artifact": {what}}))
}

func (c *Client) of(ctx context.Context, name, rest string, query url.Values) ([]byte, error) {
	path, err := under(name, rest)
	if err != nil {
		return nil, err
	}
	return c.document(ctx, path, query)
}

// Export is the evidence of an artifact of the newest commit as files, but for the
// artifact itself.
func (c *Client) Export(ctx context.Context, name, artifact string) (api.Export, error) {
	return c.exportOf(ctx, name, "", artifact)
}

func (c *Client) exportOf(ctx context.Context, name, commit, artifact string) (api.Export, error) {
	q := url.Values{"artifact": {artifact}}
	if commit != "" {
		q.Set("commit", commit)
	}
	e, err := get[api.Export](ctx, c, name, "/export", q)
	if err != nil {
		return e, err
	}
	return e, checkExport(name, e)
}

// Evidence gives one signed file about a subject as it is stored.
func (c *Client) Evidence(ctx context.Context, subject digest.Digest, file string) ([]byte, error) {
	return c.document(ctx, "/evidence/"+subject.Hex()+"/"+url.PathEscape(file), nil)
}
