package server

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"hallmark/internal/account"
	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
	"hallmark/internal/platform"
)

// postImport takes a file that was dropped or chosen, and leads to the page that
// shows what it says. The file is kept in memory for that, never on disk.
func (s *Server) postImport(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	file, content, err := s.dropped(w, r)
	if err == nil {
		var key string
		if key, err = s.opts.Platform.KeepImport(ctx, asks(ctx).Who, org, name, file, content); err == nil {
			http.Redirect(w, r, onBranch(r, "/"+org+"/"+name+"/import/"+key), http.StatusSeeOther)
			return
		}
	}
	s.failPage(w, r, err)
}

// dropped reads the one file of a form, part by part and within limits; the form's
// token stands before it.
func (s *Server) dropped(w http.ResponseWriter, r *http.Request) (name string, content []byte, err error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxImport)
	parts, err := r.MultipartReader()
	if err != nil {
		return "", nil, fault.New(fault.Usage, "the form cannot be read: %w", err)
	}
	checked := false
	for n := 0; n < 10; n++ {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", nil, fault.New(fault.Usage, "the form cannot be read: %w", err)
		}
		switch p.FormName() {
		case "form":
			b, err := io.ReadAll(io.LimitReader(p, 1000))
			if err != nil {
				return "", nil, fault.New(fault.Usage, "the form cannot be read: %w", err)
			}
			if !account.CheckFormToken(asks(r.Context()).cookie, string(b)) {
				return "", nil, errForged()
			}
			checked = true
		case "file":
			if !checked {
				return "", nil, errForged()
			}
			b, err := io.ReadAll(io.LimitReader(p, lockfile.MaxBytes+1))
			if err != nil {
				return "", nil, fault.New(fault.Usage, "the file cannot be read: %w", err)
			}
			if p.FileName() == "" && len(b) == 0 {
				return "", nil, fault.Advise(fault.Usage, "Choose one, or drop it on the field.", "there is no file in the form")
			}
			return p.FileName(), b, nil
		}
	}
	if !checked {
		return "", nil, errForged()
	}
	return "", nil, fault.Advise(fault.Usage, "Choose one, or drop it on the field.", "there is no file in the form")
}

type importView struct {
	projectHead
	platform.Import
	Key      string
	Now      bool // the catalog time moves to now
	JSON     string
	Preview  platform.Preview
	Looked   bool // there is an effect, or one is being found out
	Problem  string
	Advice   string
	Sentence string
	Takes    string
	AtTime   string // the project's
}

// Gone tells whether a package was left out on request.
func (v importView) Gone(name string) bool { return slices.Contains(v.Choice.Without, name) }

// importPage shows what a file says, what of it is left out and why, and the status
// that the project would have; nothing is committed by it. The choice stands in the
// address.
func (s *Server) importPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name, q := r.Context(), r.PathValue("org"), r.PathValue("project"), r.URL.Query()
	who := asks(ctx).Who
	v := importView{Key: r.PathValue("key"), Now: q.Get("time") == "now"}
	c := platform.ImportChoice{Choice: lockfile.Choice{Direct: q.Get("what") == "direct", Groups: q.Get("groups") == "1", Without: q["without"]}, Replace: q.Get("how") == "replace"}
	if v.Now {
		// To the day, so that the effect is that of the same change when the page is
		// loaded again.
		at := time.Now().UTC().Truncate(24 * time.Hour)
		c.AtTime = &at
	}
	var err error
	v.Import, err = s.opts.Platform.KeptImport(ctx, who, org, name, BranchOf(ctx), v.Key, c)
	if err != nil && !fault.Is(err, fault.Conflict) {
		s.failPage(w, r, err)
		return
	}
	v.projectHead = s.projectHead(ctx, org, name, "configuration")
	if err == nil && !v.Empty() {
		var key string
		if key, err = s.opts.Platform.StartPreview(ctx, who, org, name, BranchOf(ctx), v.Change); err == nil {
			v.Preview, err = s.opts.Platform.LookPreview(ctx, who, org, name, key, patience)
			v.Looked = err == nil
		}
		if err == nil && v.Preview.Done {
			err = v.Preview.Err
		}
		if b, jerr := json.Marshal(v.Change); jerr == nil {
			v.JSON = string(b)
		}
	}
	switch {
	case err != nil:
		_, text := s.say(r, err)
		v.Problem, v.Advice = cutAdvice(text)
	case v.Looked && !v.Preview.Done:
		w.Header().Set("Refresh", "1") // the page is loaded again without a script, too
	case v.Looked:
		v.Sentence = v.Preview.Effect.Sentence()
		if t := v.Preview.Effect.Work.Seconds; t != nil {
			v.Takes = about(time.Duration(*t * float64(time.Second)))
		}
	}
	w.Header().Set("Cache-Control", "private, no-store")
	s.render(w, r, http.StatusOK, "import", "Import into "+org+"/"+name, v)
}

// Link is the page's own address, on its branch.
func (v importView) Link() string { return v.Path() + "/import/" + url.PathEscape(v.Key) }
