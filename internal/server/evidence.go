package server

import (
	"context"
	"net/http"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// mayHave tells of which projects' own packages whoever asks may have the evidence.
func (s *Server) mayHave(ctx context.Context) May {
	who := asks(ctx).Who
	return func(org, project string) bool {
		if s.opts.SingleUser {
			return true
		}
		return s.opts.Platform.Evidence(ctx, who, org, project) == nil
	}
}

// evidenceIndex lists what is known about a file, as JSON.
func (s *Server) evidenceIndex(w http.ResponseWriter, r *http.Request) {
	subject, err := digest.FromHex(r.PathValue("hex"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	out, err := s.evidenceAbout(r.Context(), subject)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeJSON(w, r, "application/json", out)
}

// evidenceList is an index of evidence.
type evidenceList struct {
	Subject  digest.Digest  `json:"subject"`
	Evidence []EvidenceFile `json:"evidence"`
}

// evidenceAbout lists what is signed about a file; fault.NotFound if nothing is.
func (s *Server) evidenceAbout(ctx context.Context, subject digest.Digest) (evidenceList, error) {
	files, err := s.backend.Evidence(ctx, subject, s.mayHave(ctx))
	if err != nil {
		return evidenceList{}, err
	}
	if len(files) == 0 {
		return evidenceList{}, fault.New(fault.NotFound, "There is no evidence about %s.", subject)
	}
	out := evidenceList{Subject: subject}
	for _, f := range files {
		f.URL = s.opts.ExternalURL + "/evidence/" + subject.Hex() + "/" + f.Name
		out.Evidence = append(out.Evidence, f)
	}
	return out, nil
}

// evidenceFile gives one signed file as it was stored.
func (s *Server) evidenceFile(w http.ResponseWriter, r *http.Request) {
	subject, err := digest.FromHex(r.PathValue("hex"))
	name := r.PathValue("name")
	if err != nil || len(name) > 100 || strings.ContainsAny(name, "/\\") {
		http.NotFound(w, r)
		return
	}
	b, err := s.backend.EvidenceFile(r.Context(), subject, name, s.mayHave(r.Context()))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	contentType := "application/json"
	switch {
	case strings.HasSuffix(name, ".sigstore.json"):
		contentType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	case !strings.HasSuffix(name, ".json"):
		contentType = "text/plain; charset=utf-8"
	}
	s.write(w, r, contentType, b)
}

func (s *Server) trustedRoot(w http.ResponseWriter, r *http.Request) {
	b, err := s.backend.TrustedRoot(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.write(w, r, "application/json", b)
}
