package platform

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/remedy"
	"hallmark/internal/sbom"
	"hallmark/internal/store"
)

// Outlook says what is proven of a commit, what would be of one that is only
// proposed, and what can be done; internal/app is it. What it is asked about was
// found to be allowed before. Its methods may be called from several goroutines.
type Outlook interface {
	// Standing is a commit's status; fault.Conflict, with advice, if it was not solved
	// yet. retry counts on failed builds to be run again.
	Standing(ctx context.Context, commit digest.Digest, retry bool) (remedy.Standing, error)
	// Effect is what a proposed commit on top of base would bring. It stores nothing,
	// ends with ctx, and says what goes on.
	Effect(ctx context.Context, base digest.Digest, next project.Commit, say func(string)) (remedy.Effect, error)
	// Forecast is what building a commit that is on a branch, or would be, takes. It
	// stores nothing, ends with ctx, and says what goes on.
	Forecast(ctx context.Context, branch string, next project.Commit, retry bool, say func(string)) (api.Forecast, error)
	// Built finds an artifact of a commit by a purl, a name or a digest; fault.Conflict
	// if nothing here built it.
	Built(ctx context.Context, commit digest.Digest, artifact string) (purl.PURL, error)
	// Faults are what keeps a commit from being secure, with the ways out.
	Faults(ctx context.Context, commit digest.Digest) ([]remedy.Fault, error)
	// SBOM is the bill of materials of a commit's closure.
	SBOM(ctx context.Context, commit digest.Digest, f sbom.Format) ([]byte, error)
}

// SetOutlook lets the service tell effects, ways out and gates, and hold projects to
// 100 % secure; without it a project that requires that refuses everything. secret
// is what badges' tokens are made of. Call it before anything else.
func (s *Service) SetOutlook(o Outlook, secret []byte) {
	s.outlook = o
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("hallmark badge v1"))
	s.badge = m.Sum(nil)
}

// standing is the standing of a branch's head, for those who may read the project.
func (s *Service) standing(ctx context.Context, org, name, branch string, retry bool) (remedy.Standing, digest.Digest, error) {
	if s.outlook == nil {
		return remedy.Standing{}, "", fault.New(fault.Unsupported, "this server tells no status")
	}
	head, err := s.rows.BranchHead(ctx, org, name, branch)
	if err != nil {
		return remedy.Standing{}, "", err
	}
	st, err := s.outlook.Standing(ctx, head.ID, retry)
	return st, head.ID, err
}

// inForce gives the waivers of a project that hold, newest first.
func (s *Service) inForce(ctx context.Context, org, name string) ([]remedy.Waiver, error) {
	rows, err := s.rows.Waivers(ctx, org, name)
	if err != nil {
		return nil, err
	}
	return InForce(rows, s.now()), nil
}

// InForce picks the waivers that hold at a time.
func InForce(rows []store.Waiver, now time.Time) []remedy.Waiver {
	out := []remedy.Waiver{}
	for _, w := range rows {
		if w.Holds(now) {
			out = append(out, remedy.Waiver{PURL: purl.PURL(w.PURL), Owner: w.Owner, Reason: w.Reason, Granted: w.Created, Until: w.Expires})
		}
	}
	return out
}

// Faults gives what keeps a branch's head from being secure, each with its ways
// out, for the project's readers.
func (s *Service) Faults(ctx context.Context, w Who, org, name, branch string) ([]remedy.Fault, remedy.Standing, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return nil, remedy.Standing{}, err
	}
	st, id, err := s.standing(ctx, org, name, branch, false)
	if err != nil {
		return nil, st, err
	}
	f, err := s.outlook.Faults(ctx, id)
	return f, st, err
}

// maxFixTries bounds how many changes FixAll plans when not everything goes together.
const maxFixTries = 12

// FixAll is the one change that takes for each fault the newest version that is
// proven here. It is proposed like any other: its effect is looked at, then it is
// committed. Where these versions do not go together it is as many of them, one
// after the other, as do and lower no percentage. fault.Conflict if no such version
// is known, or none fits.
func (s *Service) FixAll(ctx context.Context, w Who, org, name, branch string) (Change, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return Change{}, err
	}
	faults, _, err := s.Faults(ctx, w, org, name, branch)
	if err != nil {
		return Change{}, err
	}
	add := remedy.FixAll(faults)
	ch := Change{Message: "fix all: ask for versions that are proven"}
	none := fault.Advise(fault.Conflict, "Look at the ways out of each, one by one.", "for nothing that is at fault another version is known that was built here, is secure, and goes with the rest")
	if len(add) == 0 {
		return Change{}, none
	}
	ch.Add = add
	if _, err := s.Preview(ctx, w, org, name, branch, ch); err == nil || len(add) == 1 || ctx.Err() != nil || fault.Is(err, fault.Unavailable) {
		return ch, ctx.Err()
	}
	ch.Add = nil
	best := -1
	for _, a := range add[:min(len(add), maxFixTries)] {
		try := ch
		try.Add = append(slices.Clone(ch.Add), a)
		e, err := s.Preview(ctx, w, org, name, branch, try)
		switch {
		case ctx.Err() != nil:
			return Change{}, ctx.Err()
		case err != nil || e.After.PercentSecure == nil || *e.After.PercentSecure < best:
		case e.Before != nil && e.Before.PercentSecure != nil && *e.After.PercentSecure < *e.Before.PercentSecure:
		default:
			ch, best = try, *e.After.PercentSecure
		}
	}
	if len(ch.Add) == 0 {
		return Change{}, none
	}
	return ch, nil
}

// GateDemand is what somebody asks a project's gate.
type GateDemand struct {
	MinSecure    *int // nil: no least percentage
	NoNewUnknown bool // compared with the parent commit
}

// Gate answers whether a branch's head meets a demand, waivers that hold counted as
// answers, for the project's readers. A head that was not solved is fault.Conflict.
func (s *Service) Gate(ctx context.Context, w Who, org, name, branch string, d GateDemand) (remedy.Answer, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return remedy.Answer{}, err
	}
	st, id, err := s.standing(ctx, org, name, branch, false)
	if err != nil {
		return remedy.Answer{}, err
	}
	ws, err := s.inForce(ctx, org, name)
	if err != nil {
		return remedy.Answer{}, err
	}
	demand := remedy.Demand{MinSecure: d.MinSecure}
	if d.NoNewUnknown {
		row, err := s.rows.Commit(ctx, id)
		if err != nil {
			return remedy.Answer{}, err
		}
		demand.NewUnknown = remedy.NewUnknown(nil, st.Document)
		if row.Parent != "" {
			before, err := s.outlook.Standing(ctx, row.Parent, false)
			switch {
			case err == nil:
				demand.NewUnknown = remedy.NewUnknown(&before.Document, st.Document)
			case !fault.Is(err, fault.Conflict):
				return remedy.Answer{}, err
			}
		}
	}
	return remedy.Gate(st.Document, ws, demand), nil
}

// refusal is what a project that requires 100 % secure answers; nil if nothing is
// left open.
func refusal(org, name, doing string, open []purl.PURL) error {
	if len(open) == 0 {
		return nil
	}
	are := "packages are"
	if len(open) == 1 {
		are = "package is"
	}
	return fault.Advise(fault.Denied, fmt.Sprintf("The ways out, each with its effect: /%s/%s/remedies (another version, building it, or a waiver with owner, reason and end).", org, name),
		"%s is refused, since %s/%s requires 100 %% secure and %d %s not: %s", doing, org, name, len(open), are, remedy.Names(open))
}

// required is nil unless the project requires 100 % secure and its head, which doing
// is about, is neither that nor answered for by waivers. What only waits to be built
// does not speak against building it.
func (s *Service) required(ctx context.Context, org, name, branch, doing string, waiting, retry bool) error {
	v, err := s.rows.Settings(ctx, org, name)
	if err != nil || !v.RequireSecure {
		return err
	}
	if until, ok := s.good.Load(org + "/" + name); ok && !waiting && branch == "" && s.now().Before(until.(time.Time)) {
		return nil
	}
	if s.outlook == nil {
		return fault.Advise(fault.Denied, "Ask whoever runs this server.", "%s is refused: %s/%s requires 100 %% secure, and this server cannot tell whether it is", doing, org, name)
	}
	st, _, err := s.standing(ctx, org, name, branch, retry)
	if fault.Is(err, fault.Conflict) && waiting {
		return nil // nothing is known of it before it is solved: building does that
	}
	if err != nil {
		return err
	}
	ws, err := s.inForce(ctx, org, name)
	if err != nil {
		return err
	}
	if open := remedy.Refused(st, ws, waiting); len(open) > 0 {
		return refusal(org, name, doing, open)
	}
	if !waiting && branch == "" {
		s.good.Store(org+"/"+name, s.now().Add(goodFor))
	}
	return nil
}

// goodFor is how long a project that was found to be 100 % secure is not asked
// again for the next file of a download. That it is not is asked each time.
const goodFor = 2 * time.Second

// proposal is nil unless the project requires 100 % secure and a commit, which was
// proposed and not made, could not become that.
func (s *Service) proposal(ctx context.Context, org, name, branch string, base digest.Digest, ch Change, next project.Commit) error {
	v, err := s.rows.Settings(ctx, org, name)
	if err != nil || !v.RequireSecure {
		return err
	}
	if s.outlook == nil {
		return fault.Advise(fault.Denied, "Ask whoever runs this server.", "the commit is refused: %s/%s requires 100 %% secure, and this server cannot tell whether it would be", org, name)
	}
	p, err := s.previewOf(ctx, org, name, branch, base, ch, next)
	if err != nil {
		return err
	}
	got, err := s.wait(ctx, p)
	if err != nil {
		return err
	}
	ws, err := s.inForce(ctx, org, name)
	if err != nil {
		return err
	}
	return refusal(org, name, "the commit", remedy.Refused(got.Effect.Standing, ws, true))
}

// Report is what an auditor is handed about a branch's head, for the project's
// readers.
func (s *Service) Report(ctx context.Context, w Who, org, name, branch string) (remedy.Report, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return remedy.Report{}, err
	}
	st, id, err := s.standing(ctx, org, name, branch, false)
	if err != nil {
		return remedy.Report{}, err
	}
	c, err := s.docs.Commit(ctx, id)
	if err != nil {
		return remedy.Report{}, err
	}
	v, err := s.rows.Settings(ctx, org, name)
	if err != nil {
		return remedy.Report{}, err
	}
	ws, err := s.inForce(ctx, org, name)
	if err != nil {
		return remedy.Report{}, err
	}
	return remedy.NewReport(remedy.ReportInput{Standing: st, AtTime: c.AtTime, Requirements: c.Requirements, RequireSecure: v.RequireSecure, Waivers: ws, Now: s.now()}), nil
}

// Exported is a branch's head's status with the waivers that hold, for CSV and
// SARIF, for the project's readers.
func (s *Service) Exported(ctx context.Context, w Who, org, name, branch string) (remedy.Standing, []remedy.Waiver, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return remedy.Standing{}, nil, err
	}
	st, _, err := s.standing(ctx, org, name, branch, false)
	if err != nil {
		return st, nil, err
	}
	ws, err := s.inForce(ctx, org, name)
	return st, ws, err
}

// SBOM is the bill of materials of a branch's head, for the project's readers.
func (s *Service) SBOM(ctx context.Context, w Who, org, name, branch string, f sbom.Format) ([]byte, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return nil, err
	}
	if s.outlook == nil {
		return nil, fault.New(fault.Unsupported, "this server writes no bills of materials")
	}
	head, err := s.rows.BranchHead(ctx, org, name, branch)
	if err != nil {
		return nil, err
	}
	return s.outlook.SBOM(ctx, head.ID, f)
}

// BadgeToken gives the token with which the badge of a project can be shown to
// whoever has it: it tells the percentage and opens nothing else. It lasts as long
// as the data directory's keys. SetProject, since handing it out tells something.
func (s *Service) BadgeToken(ctx context.Context, w Who, org, name string) (string, error) {
	if err := s.may(ctx, w, access.SetProject, org, name); err != nil {
		return "", err
	}
	if s.badge == nil {
		return "", fault.New(fault.Unsupported, "this server has no badges")
	}
	return s.badgeToken(org, name), nil
}

func (s *Service) badgeToken(org, name string) string {
	m := hmac.New(sha256.New, s.badge)
	fmt.Fprintf(m, "%s/%s", org, name)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:24])
}

// Badge gives the percentage of a project's head to its readers and to whoever has
// its badge's token; nil if there is nothing to count, or it was not solved. For
// everybody else the project is hidden.
func (s *Service) Badge(ctx context.Context, w Who, org, name, token string) (*int, error) {
	if s.outlook == nil || s.badge == nil {
		return nil, hidden(w, org, name)
	}
	// All is asked whatever the answer is: a project that is not there must not
	// answer faster.
	good := hmac.Equal([]byte(token), []byte(s.badgeToken(org, name)))
	_, missing := s.rows.Project(ctx, org, name)
	if missing != nil && !fault.Is(missing, fault.NotFound) {
		return nil, missing
	}
	readable := s.Read(ctx, w, org, name)
	if readable != nil && !fault.Is(readable, fault.NotFound) {
		return nil, readable
	}
	if missing != nil || readable != nil && !good {
		return nil, hidden(w, org, name)
	}
	st, _, err := s.standing(ctx, org, name, "", false)
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return st.Document.Summary.PercentSecure, err
}
