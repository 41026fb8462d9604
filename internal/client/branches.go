package client

import (
	"context"
	"net/http"
	"net/url"

	"hallmark/internal/api"
)

// Branches lists the project's branches, the default one first.
func (c *Client) Branches(ctx context.Context, name string) ([]api.Branch, error) {
	out, err := get[struct{ Branches []api.Branch }](ctx, c, name, "/branches", nil)
	return out.Branches, err
}

// CreateBranch makes a branch that begins at from: a commit's id or a branch; empty:
// the default one.
func (c *Client) CreateBranch(ctx context.Context, name, branch, from string) (api.Branch, error) {
	return post[api.Branch](ctx, c, name, "/branches", map[string]string{"name": branch, "from": from})
}

// RemoveBranch forgets a branch; its commits stay.
func (c *Client) RemoveBranch(ctx context.Context, name, branch string) error {
	path, err := under(name, "/branches/"+url.PathEscape(branch))
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil, nil)
}

// SetDefaultBranch makes a branch the default one.
func (c *Client) SetDefaultBranch(ctx context.Context, name, branch string) error {
	path, err := under(name, "/default-branch")
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPut, path, nil, map[string]string{"branch": branch}, nil)
}

// Compare says what differs between two commits, each named by its id or a branch.
func (c *Client) Compare(ctx context.Context, name, from, to string) (api.Comparison, error) {
	return get[api.Comparison](ctx, c, name, "/comparison", url.Values{"from": {from}, "to": {to}})
}

// Import imports a file.
func (c *Client) Import(ctx context.Context, name string, q api.ImportRequest) (api.Imported, error) {
	return post[api.Imported](ctx, c, name, "/imports", q)
}
