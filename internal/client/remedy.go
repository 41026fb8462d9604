package client

import (
	"context"
	"io"

	"hallmark/internal/api"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
	"hallmark/internal/sbom"
)

// StatusFile is a project's status as CSV (ext "csv") or SARIF ("sarif").
func (c *Client) StatusFile(ctx context.Context, name, ext string) ([]byte, error) {
	return c.handed(ctx, name, "status."+ext)
}

// SBOM is a project's bill of materials.
func (c *Client) SBOM(ctx context.Context, name string, f sbom.Format) ([]byte, error) {
	return c.handed(ctx, name, "sbom."+string(f)+".json")
}

// AuditReport is the report on a project for an auditor, as JSON.
func (c *Client) AuditReport(ctx context.Context, name string) ([]byte, error) {
	return c.handed(ctx, name, "report.json")
}

// Runtime writes what the newest commit installs to w, as file says: oci.tar or tar.
func (c *Client) Runtime(ctx context.Context, name, file string, w io.Writer) error {
	if _, _, err := project.ParseName(name); err != nil {
		return err
	}
	return c.Stream(ctx, "/"+name+"/runtime."+file, c.on("branch", nil), w)
}

// Preview is what a change would bring; nothing is stored. It takes as long as
// planning takes.
func (c *Client) Preview(ctx context.Context, name string, ch api.Change) (remedy.Effect, error) {
	if ch.Branch == "" {
		ch.Branch = c.Branch
	}
	return slowPost[remedy.Effect](ctx, c, name, "/previews", ch)
}

// handed gives one of a project's documents that are made to be handed on.
func (c *Client) handed(ctx context.Context, name, file string) ([]byte, error) {
	if _, _, err := project.ParseName(name); err != nil {
		return nil, err
	}
	return c.document(ctx, "/"+name+"/"+file, c.on("branch", nil))
}
