package platform

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"path"
	"strings"
	"sync"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
)

// Import is a file of another tool's, read, and the change that it comes to. Nothing
// is committed by it: the change is previewed and committed like any other.
type Import struct {
	File   lockfile.File
	Choice ImportChoice
	Taken  []lockfile.Found
	Left   []lockfile.Left // by the file's reading and by the choice
	Stands int             // requirements of it that the project has already
	Change Change
	Base   digest.Digest // the commit that the change was thought out on
	Branch string
}

// Empty tells whether the project asks for all of it already.
func (i Import) Empty() bool {
	return len(i.Change.Add)+len(i.Change.Remove) == 0 && i.Change.AtTime == nil
}

// ImportChoice is how a file is taken over.
type ImportChoice struct {
	lockfile.Choice
	Replace bool       // the project asks for nothing else afterwards
	AtTime  *time.Time // the catalog time moves, so that newer versions are seen; nil: it stays
}

// Import reads a file and gives the change that it comes to on a branch;
// ChangeProject. Nothing is stored.
func (s *Service) Import(ctx context.Context, w Who, org, name, branch, file string, content []byte, c ImportChoice) (Import, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return Import{}, err
	}
	f, err := s.readFile(ctx, file, content)
	if err != nil {
		return Import{}, err
	}
	return s.importOf(ctx, w, org, name, branch, f, c)
}

func (s *Service) importOf(ctx context.Context, w Who, org, name, branch string, f lockfile.File, c ImportChoice) (Import, error) {
	head, err := s.Head(ctx, w, org, name, branch)
	if err != nil {
		return Import{}, err
	}
	i := Import{File: f, Choice: c, Base: head.ID, Branch: branch}
	if i.Taken, i.Left, err = f.Choose(c.Choice); err != nil {
		return Import{}, err
	}
	if err := f.Enough(i.Taken, c.Replace); err != nil || len(i.Taken) == 0 {
		return i, err
	}
	i.Change.Add, i.Change.Remove = lockfile.Change(head.Requirements, i.Taken, c.Replace)
	i.Stands = len(i.Taken) - len(i.Change.Add)
	// RFC 3339 in UTC sorts by time. Importing does not go back in time.
	if c.AtTime != nil && c.AtTime.UTC().Format(time.RFC3339) > head.AtTime {
		at := c.AtTime.UTC().Truncate(time.Second)
		i.Change.AtTime = &at
	}
	i.Change.Message = f.Message(i.Taken, c.Replace)
	return i, nil
}

// fileName is the last part of a file's name, short enough for a message.
func fileName(s string) string {
	s = path.Base(strings.ReplaceAll(strings.ToValidUTF8(s, ""), `\`, "/"))
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if s == "" || s == "." || s == "/" {
		return "the file"
	}
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "")
	}
	return s
}

// Bounds of the files that pages show, which are kept in memory between the
// dropping and the commit.
const (
	maxImports    = 200
	maxImportsOf  = 5        // of one person; an older one gives way
	maxImportKeep = 64 << 20 // bytes that all of them had
	readImports   = 2        // that are read at a time: reading one takes a processor for seconds, if somebody made it to
	keepImportFor = time.Hour
)

// kept is a file that somebody looks at.
type kept struct {
	org, name, user string
	file            lockfile.File
	since           time.Time
	bytes           int
}

// imports are the files that pages show. The zero value has none.
type imports struct {
	mu  sync.Mutex // guards all
	all map[string]kept

	once  sync.Once
	reads chan struct{} // bounds how many files are read at a time
}

// readFile reads a file when it is its turn.
func (s *Service) readFile(ctx context.Context, name string, content []byte) (lockfile.File, error) {
	v := &s.imports
	v.once.Do(func() { v.reads = make(chan struct{}, readImports) })
	select {
	case v.reads <- struct{}{}:
		defer func() { <-v.reads }()
	case <-ctx.Done():
		return lockfile.File{}, ctx.Err()
	}
	return s.docs.ReadLockfile(fileName(name), content)
}

// keep stores a file and gives its key, which nobody can guess.
func (v *imports) keep(k kept) string {
	var b [18]byte
	rand.Read(b[:])
	key := base64.RawURLEncoding.EncodeToString(b[:])
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all == nil {
		v.all = map[string]kept{}
	}
	mine, bytes := 0, k.bytes
	for key, x := range v.all {
		if k.since.Sub(x.since) > keepImportFor {
			delete(v.all, key)
			continue
		}
		bytes += x.bytes
		if x.user == k.user {
			mine++
		}
	}
	for len(v.all) > 0 && (mine >= maxImportsOf || len(v.all) >= maxImports || bytes > maxImportKeep) {
		oldest := ""
		for key, x := range v.all {
			if (mine < maxImportsOf || x.user == k.user) && (oldest == "" || x.since.Before(v.all[oldest].since)) {
				oldest = key
			}
		}
		if v.all[oldest].user == k.user {
			mine--
		}
		bytes -= v.all[oldest].bytes
		delete(v.all, oldest)
	}
	v.all[key] = k
	return key
}

// KeepImport reads a file and keeps what it says for a page, under a key, for an
// hour; ChangeProject.
func (s *Service) KeepImport(ctx context.Context, w Who, org, name, file string, content []byte) (string, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return "", err
	}
	f, err := s.readFile(ctx, file, content)
	if err != nil {
		return "", err
	}
	return s.imports.keep(kept{org, name, w.User, f, time.Now(), len(content)}), nil
}

// KeptImport gives a kept file with the change that a choice makes of it;
// ChangeProject, and only whoever kept it. One that is not there any more is
// fault.NotFound.
func (s *Service) KeptImport(ctx context.Context, w Who, org, name, branch, key string, c ImportChoice) (Import, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return Import{}, err
	}
	s.imports.mu.Lock()
	k, ok := s.imports.all[key]
	s.imports.mu.Unlock()
	if !ok || k.org != org || k.name != name || k.user != w.User || time.Since(k.since) > keepImportFor {
		return Import{}, fault.Advise(fault.NotFound, "Drop the file again.", "this file is not kept any more")
	}
	return s.importOf(ctx, w, org, name, branch, k.file, c)
}
