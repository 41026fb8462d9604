package server

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// Artifacts tells all that is known of one file.
type Artifacts interface {
	// Artifact gives a file of a project's newest commit, by its digest: one that is
	// served, was built in its place, or is built with. fault.NotFound if the commit
	// has none; errors of Project as well. Who may read the project was asked before.
	// What was made for pages is used again as long as it is the same pointer: nobody
	// changes what it points to.
	Artifact(ctx context.Context, org, name string, d digest.Digest) (*Artifact, error)
}

// Artifact is one file with all that is known of it.
type Artifact struct {
	PURL      purl.PURL
	File      string
	Digest    digest.Digest
	Size      int64 // bytes; 0: not known
	Class     policy.Class
	Grade     policy.Grade // empty: secure
	Reasons   []policy.Reason
	Policy    policy.Policy
	Runtime   bool                   // of the runtime closure; else only built with
	Direct    bool                   // asked for
	Served    bool                   // the file that is served; else one of ours in whose place another is
	Published bool                   // its publisher's file
	KeyID     string                 // of whoever signs here
	Verifier  string                 // verifier.id in the summaries that are signed here
	Level     string                 // SLSA build level that is true of builds here
	Step      digest.Digest          // that makes it; empty: none
	Source    *plan.Source           // nil: there is none
	Recipe    *plan.Recipe           // nil: there is none
	Epoch     time.Time              // SOURCE_DATE_EPOCH; zero: no step
	First     *record.Build          // its first build that counts; nil: none
	Builds    []record.Build         // of its step, oldest first
	Rebuilds  []record.RebuildResult // of its step, oldest first
	Why       []status.Hop           // the shortest way to what is missing; one hop without reasons: nothing is
	Failure   *status.Failure        // of our build; nil: none
	Rests     Closure                // what it rests on
	Closure   int                    // how many artifacts and tools that is, in all
	Proven    int                    // of them, secure
}

// condition is one of the four properties of a build, with the facts that make it.
type condition struct {
	Name, Means string
	Facts       []record.Fact
	Holds       bool
}

// conditions groups what was read off the sandbox of a build. A fact that is
// missing does not hold.
func conditions(f record.Facts) []condition {
	by := map[string]record.Fact{}
	for _, x := range f.Facts {
		by[x.Name] = x
	}
	var out []condition
	for _, c := range []struct {
		name, means string
		facts       []string
	}{
		{"Isolated", "nothing outside influences it", record.IsolationFacts},
		{"Ephemeral", "its environment existed for it alone", record.EphemeralFacts},
		{"Hermetic", "every input declared by digest, and no network", record.HermeticFacts},
		{"Limited", "what it may use of this host, enforced by control groups", record.LimitFacts},
	} {
		v := condition{Name: c.name, Means: c.means, Holds: true}
		for _, n := range c.facts {
			x, ok := by[n]
			if !ok {
				x = record.Fact{Name: n, Got: "not read"}
			}
			v.Holds = v.Holds && x.Holds
			v.Facts = append(v.Facts, x)
		}
		out = append(out, v)
	}
	return out
}

// command is something to paste into a shell.
type command struct {
	Title, Text string
}

type artifactView struct {
	*Artifact
	Ways     *waysOutView // out; nil: there is nothing at fault, or nothing can be done here
	Top      projectHead
	Download string // empty: none
	Refused  string // why there is none
	Builder  string // as a link; empty: none
	Evidence []EvidenceFile
	Commands []command
	Back     string // to its row
}

// factsView is what the page says, the same to all, of the builds of an artifact.
type factsView struct {
	*Artifact
	Full       string // ORG/PROJECT
	Hosted     bool
	Conditions []condition
	Series     []record.RebuildResult // newest first
}

// restsView is what the page says, the same to all, of what an artifact rests on.
type restsView struct {
	*Artifact
	Graphs []*graphView
}

// factsPiece is the part of the page that a factsView is.
func (s *Server) factsPiece(a *Artifact, full string) (*piece, error) {
	return s.pieces.get(pieceKey{a, full, "facts"}, "artifact-facts", func() any {
		v := factsView{Artifact: a, Full: full, Hosted: s.opts.Platform != nil, Series: slices.Clone(a.Rebuilds)}
		slices.Reverse(v.Series)
		if a.First != nil {
			v.Conditions = conditions(a.First.Facts)
		}
		return v
	})
}

// restsPiece is the part of the page that a restsView is, with as much of the picture
// open as an address asks for.
func (s *Server) restsPiece(a *Artifact, full string, q url.Values) (*piece, error) {
	opened, _ := opens(q)
	name := "rests " + strings.Join(slices.Sorted(maps.Keys(opened)), "\n")
	return s.pieces.get(pieceKey{a, full, name}, "artifact-rests", func() any {
		return restsView{a, a.graphs("/"+full+"/artifact/", q)}
	})
}

// Name is the package's.
func (v artifactView) Name() string { return v.PURL.Name() }

// Version is the package's.
func (v artifactView) Version() string { return v.PURL.Version() }

// artifactPage shows one file: what it is, who built it, where, under what
// conditions, from what, and how to check all that.
func (s *Server) artifactPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	if err := s.read(ctx, org, name); err != nil {
		s.failPage(w, r, err)
		return
	}
	d, err := digest.FromHex(r.PathValue("hex"))
	if err != nil {
		s.failPage(w, r, fault.New(fault.NotFound, "an artifact's page is named by the 64 hex digits of its SHA-256"))
		return
	}
	a, err := s.backend.Artifact(ctx, org, name, d)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := artifactView{Artifact: a, Top: s.projectHead(ctx, org, name, "builds")}
	row := status.Row{PURL: a.PURL, Class: a.Class, Digest: &d, Reasons: a.Reasons}
	if a.First != nil && !a.Published {
		row.Builder = &a.First.Builder
	}
	v.Back = "/" + org + "/" + name + "#" + anchor(row)
	if p, err := s.backend.Project(ctx, org, name); err == nil {
		if to := s.rowLink(p, a.PURL); to != "" {
			v.Back = to
		}
	}
	if a.Served && a.Runtime && a.PURL.Type() == "pypi" {
		if err := s.take(ctx, org, name, row); err != nil {
			v.Refused = takes{a.Class: {row.PURL, err}}.refused(row)
		} else {
			v.Download = (&url.URL{Path: "/r/" + org + "/" + name + "/pypi/files/" + d.Hex() + "/" + a.File}).String()
		}
	}
	if a.First != nil {
		v.Builder = s.builderPath(ctx, a.First.Builder)
	}
	if v.Evidence, err = s.backend.Evidence(ctx, d, s.mayHave(ctx)); err != nil {
		s.failPage(w, r, err)
		return
	}
	for i, e := range v.Evidence {
		v.Evidence[i].URL = (&url.URL{Path: "/evidence/" + d.Hex() + "/" + e.Name}).String()
	}
	v.Commands = s.commands(a, v.Evidence)
	if a.Class != policy.Secure && s.opts.Platform != nil {
		if v.Ways, err = s.waysOf(ctx, org, name, a.PURL); err != nil {
			s.failPage(w, r, err)
			return
		}
	}
	facts, err := s.factsPiece(a, org+"/"+name)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	rests, err := s.restsPiece(a, org+"/"+name, r.URL.Query())
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	s.renderAround(w, r, "artifact", a.File+" of "+org+"/"+name, v, facts, rests)
}

// builderPath is the page of a builder id of ours, whatever name we had when it was
// made; empty if it is another's.
func (s *Server) builderPath(ctx context.Context, id string) string {
	u, err := url.Parse(id)
	if err != nil {
		return ""
	}
	m := builderRE.FindStringSubmatch(u.Path)
	if m == nil {
		return ""
	}
	if _, ok := s.builders.Load(u.Path); !ok {
		if _, err := s.backend.Builder(ctx, m[1], m[2]); err != nil {
			return ""
		}
		s.builders.Store(u.Path, true) // there are few, and a server's keys stay as they are
	}
	return u.Path
}

// quote makes one word of a shell of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// commands are those that check the evidence about an artifact with tools that are
// not ours; none if there is nothing to check, or a name cannot stand in a command.
func (s *Server) commands(a *Artifact, evidence []EvidenceFile) []command {
	has := map[string]bool{}
	var fetch strings.Builder
	base := s.opts.ExternalURL + "/evidence/" + a.Digest.Hex() + "/"
	for _, e := range evidence {
		if has[e.Name] {
			continue
		}
		has[e.Name] = true
		fetch.WriteString("curl -fsSO " + quote(base+e.Name) + "\n")
	}
	for _, text := range []string{a.File, string(a.PURL)} {
		if text == "" || strings.HasPrefix(text, "-") || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || !unicode.IsPrint(r) }) {
			return nil
		}
	}
	if len(has) == 0 || a.KeyID == "" {
		return nil
	}
	fetch.WriteString("curl -fsSO " + quote(s.opts.ExternalURL+"/trusted_root.json") + "\ncurl -fsSo key.pub " + quote(s.opts.ExternalURL+"/verifier/"+a.KeyID+"/key.pub"))
	out := []command{{"Get the evidence, beside the file", fetch.String()},
		{"The file is the one that the evidence is about", "echo " + quote(a.Digest.Hex()+"  "+a.File) + " | sha256sum --check"}}
	cosign := func(title, bundle, typ string) {
		if has[bundle] {
			out = append(out, command{title, "cosign verify-blob-attestation --key key.pub \\\n  --bundle " + bundle + " --trusted-root trusted_root.json \\\n  --use-signed-timestamps --type " + typ + " \\\n  " + quote(a.File)})
		}
	}
	cosign("How it was built, and by whom (cosign)", "provenance.sigstore.json", "slsaprovenance1")
	cosign("What came out when it was built again (cosign)", "rebuild.sigstore.json", "urn:hallmark:rebuild:v1")
	if has["vsa.dsse.json"] {
		text := "slsa-verifier verify-vsa --subject-digest " + a.Digest.String() + " \\\n  --attestation-path vsa.dsse.json --verifier-id " + quote(a.Verifier) + " \\\n  --resource-uri " + quote(string(a.PURL))
		title := "What the policy said (slsa-verifier): this one is refused, since it is not secure"
		if a.Class == policy.Secure {
			title, text = "What the policy said (slsa-verifier)", text+" \\\n  --verified-level HALLMARK_SECURE --verified-level "+a.Level
		}
		out = append(out, command{title, text + " \\\n  --public-key-path key.pub"})
	}
	return out
}

// publicKey gives the key that a verifier signs with, as PEM.
func (s *Server) publicKey(w http.ResponseWriter, r *http.Request) {
	pem, err := s.backend.PublicKey(r.Context(), r.PathValue("key"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.write(w, r, "application/x-pem-file", pem)
}
