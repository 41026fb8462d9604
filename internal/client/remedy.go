package client

import (
	"context"

	"hallmark/internal/project"
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

// handed gives one of a project's documents that are made to be handed on.
func (c *Client) handed(ctx context.Context, name, file string) ([]byte, error) {
	if _, _, err := project.ParseName(name); err != nil {
		return nil, err
	}
	return c.document(ctx, "/"+name+"/"+file, c.on("branch", nil))
}
