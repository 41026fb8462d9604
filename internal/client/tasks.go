package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// Forecast says what building the branch would take, with a change if it is not
// empty. It takes as long as planning takes.
func (c *Client) Forecast(ctx context.Context, name string, ch api.Change, retry bool) (api.Forecast, error) {
	if ch.Branch == "" {
		ch.Branch = c.Branch
	}
	return slowPost[api.Forecast](ctx, c, name, "/forecasts", api.ForecastRequest{Change: ch, Retry: retry})
}

// BuildPackage queues the build of one package.
func (c *Client) BuildPackage(ctx context.Context, name string, b api.PackageBuild) (api.Run, error) {
	if b.Branch == "" {
		b.Branch = c.Branch
	}
	return post[api.Run](ctx, c, name, "/package-builds", b)
}

// Rebuild queues a rebuild of an artifact of the newest commit.
func (c *Client) Rebuild(ctx context.Context, name, artifact string) (api.Run, error) {
	return post[api.Run](ctx, c, name, "/rebuilds", map[string]string{"artifact": artifact, "branch": c.Branch})
}

// Result gives what came of a run that built a package or rebuilt an artifact.
func (c *Client) Result(ctx context.Context, name, run string) (api.TaskResult, error) {
	return get[api.TaskResult](ctx, c, name, "/runs/"+url.PathEscape(run)+"/result", nil)
}

// Overrides gives the overrides of a commit, which have to be those of the digest that
// it names.
func (c *Client) Overrides(ctx context.Context, name string, commit api.Commit) ([]plan.PackageOverrides, error) {
	if commit.Overrides == "" {
		return nil, nil
	}
	out, err := get[struct{ Overrides []plan.PackageOverrides }](ctx, c, name, "/overrides", url.Values{"commit": {commit.ID}})
	if err != nil {
		return nil, err
	}
	id, err := pypi.OverridesID(out.Overrides)
	if err != nil || id != commit.Overrides {
		return nil, fault.New(fault.Hostile, "the server gives other overrides than those of %s: %v", Clean(commit.ID, 80), err)
	}
	return out.Overrides, nil
}

// askInspection is how often a check of a data directory is asked for.
const askInspection = time.Second

// Inspect has the server check its data directory, or with repair mend it, and tells
// how far that is until it has ended.
func (c *Client) Inspect(ctx context.Context, repair bool, tell func(api.Inspection)) (api.Inspection, error) {
	const path = "/api/v1/inspection"
	var v api.Inspection
	if err := c.call(ctx, http.MethodPost, path, nil, map[string]bool{"repair": repair}, &v); err != nil {
		return v, err
	}
	for id, heard := v.ID, time.Now(); v.Ended == nil; {
		tell(v)
		select {
		case <-ctx.Done():
			if !repair { // nobody waits for it any more
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
				defer cancel()
				_ = c.call(last, http.MethodDelete, path, nil, nil, nil)
			}
			return v, ctx.Err()
		case <-time.After(askInspection):
		}
		var now api.Inspection
		switch err := c.call(ctx, http.MethodGet, path, nil, nil, &now); {
		case err == nil && now.ID == id:
			v, heard = now, time.Now()
		case err == nil, fault.Is(err, fault.NotFound):
			return v, fault.Advise(fault.Unavailable, "Ask for it again.", "the check of the data directory is not known any more: the server was started anew, or somebody began another")
		case !fault.Is(err, fault.Unavailable) || time.Since(heard) > patience:
			return v, err
		}
	}
	return v, nil
}

// Seed gives the server's seed.
func (c *Client) Seed(ctx context.Context) (api.Seed, error) {
	var out api.Seed
	return out, c.call(ctx, http.MethodGet, "/api/v1/seed", nil, nil, &out)
}

// SeedCandidate has the server resolve a seed as its machine has it now.
func (c *Client) SeedCandidate(ctx context.Context) (api.SeedCandidate, error) {
	var out api.SeedCandidate
	err := c.slowly(ctx, http.MethodPost, "/api/v1/seed/candidates", nil, nil, &out)
	if err != nil {
		return out, err
	}
	pin, err := debian.ParsePin(out.Pin)
	if err != nil {
		return out, fault.New(fault.Hostile, "the candidate that %s gives: %w", c.base, err)
	}
	if id, err := pin.Digest(); err != nil || id != out.Candidate {
		return out, fault.New(fault.Hostile, "%s gives the pin of another candidate than %.80q", c.base, out.Candidate)
	}
	return out, nil
}
