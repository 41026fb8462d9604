package server

import (
	"net/http"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// evidenceIndex lists what is known about a file, as JSON.
func (s *Server) evidenceIndex(w http.ResponseWriter, r *http.Request) {
	subject, err := digest.FromHex(r.PathValue("hex"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	files, err := s.backend.Evidence(r.Context(), subject)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(files) == 0 {
		s.fail(w, r, fault.New(fault.NotFound, "There is no evidence about %s.", subject))
		return
	}
	type index struct {
		Subject  digest.Digest  `json:"subject"`
		Evidence []EvidenceFile `json:"evidence"`
	}
	out := index{Subject: subject}
	for _, f := range files {
		f.URL = s.opts.ExternalURL + "/evidence/" + subject.Hex() + "/" + f.Name
		out.Evidence = append(out.Evidence, f)
	}
	s.writeJSON(w, r, "application/json", out)
}

// evidenceFile gives one signed file as it was stored.
func (s *Server) evidenceFile(w http.ResponseWriter, r *http.Request) {
	subject, err := digest.FromHex(r.PathValue("hex"))
	name := r.PathValue("name")
	if err != nil || len(name) > 100 || strings.ContainsAny(name, "/\\") {
		http.NotFound(w, r)
		return
	}
	b, err := s.backend.EvidenceFile(r.Context(), subject, name)
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
