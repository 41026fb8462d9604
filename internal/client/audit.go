package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"hallmark/internal/api"
	"hallmark/internal/fault"
)

// maxAudit is how many entries of an audit log a client takes.
const maxAudit = 2_000_000

// AuditLog gives the audit log of an organization, or, if org is empty, of the
// platform, oldest first. Entries of the platform's have to be numbered without a
// gap: fault.Unverified if they are not. That they are what was once written only
// whoever has the data directory can tell.
func (c *Client) AuditLog(ctx context.Context, org string) ([]api.AuditEntry, error) {
	path := "/api/v1/audit"
	if org != "" {
		path = "/api/v1/orgs/" + url.PathEscape(org) + "/audit"
	}
	var all []api.AuditEntry
	for before := int64(0); ; {
		q := url.Values{"limit": {"1000"}}
		if before > 0 {
			q.Set("before", strconv.FormatInt(before, 10))
		}
		var page struct {
			Entries []api.AuditEntry `json:"entries"`
			Before  int64            `json:"before"`
		}
		if err := c.call(ctx, http.MethodGet, path, q, nil, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			if n := len(all); n > 0 && (e.Seq >= all[n-1].Seq || org == "" && e.Seq != all[n-1].Seq-1) {
				return nil, fault.New(fault.Unverified, "audit log: entry %d does not go before entry %d", e.Seq, all[n-1].Seq)
			}
			for _, s := range []*string{&e.Actor, &e.Via, &e.Address, &e.Organization, &e.Project, &e.Action, &e.Object, &e.Detail} {
				*s = Clean(*s, 4096)
			}
			all = append(all, e)
		}
		if page.Before == 0 || len(page.Entries) == 0 {
			break
		}
		if len(all) > maxAudit {
			return nil, fault.New(fault.Hostile, "audit log: more than %d entries", maxAudit)
		}
		before = page.Before
	}
	if n := len(all); org == "" && n > 0 && all[n-1].Seq != 1 {
		return nil, fault.New(fault.Unverified, "audit log: it begins with entry %d", all[n-1].Seq)
	}
	slices.Reverse(all)
	return all, nil
}
