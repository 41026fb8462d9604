package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hallmark/internal/fault"
)

// What a server shows rests on the keys: what a revoked key signed must not be shown
// as proven, and a new key's statements must be. So when the keys are changed, the
// data directory is opened anew, each question asked from then on is answered by the
// new opening, and the old one is closed when it has answered the last of its own. No
// request is cut off and no build is stopped: builds open the data directory by
// themselves, each anew.

const (
	// keysEvery is how often a server looks whether its keys were changed.
	keysEvery = 2 * time.Second
	// A change takes a moment in which the folder of keys cannot be read: it is tried
	// reopenTries times, reopenWait apart, before nobody answers.
	reopenTries = 10
	reopenWait  = 100 * time.Millisecond
)

// current is a data directory as it is read now.
type current struct {
	keys string // the folder of the keys
	open func(ctx context.Context) (*App, error)

	mu  sync.Mutex // guards all below, and users and over of every opening
	now *opening   // nil: nobody answers, for the reason in err
	err error
	all map[*opening]bool // that are not closed
}

// opening is one opening of the data directory, with what is made once for it.
type opening struct {
	*App
	files   string // of the keys, as they were before it was opened
	outlook *Outlook
	catalog *Catalog

	users int
	over  bool // there is a newer one
}

// newCurrent opens a data directory for answers.
func newCurrent(ctx context.Context, data string, open func(ctx context.Context) (*App, error)) (*current, error) {
	c := &current{keys: filepath.Join(data, "keys"), open: open, all: map[*opening]bool{}}
	o, err := c.reopen(ctx)
	if err != nil {
		return nil, err
	}
	c.put(o, nil)
	return c, nil
}

// answer asks who answers now, and holds on to it meanwhile. What do gives may not
// rest on the opening.
func answer[T any](c *current, do func(o *opening) (T, error)) (T, error) {
	o, err := c.take()
	if err != nil {
		var zero T
		return zero, err
	}
	defer c.give(o)
	return do(o)
}

func (c *current) take() (*opening, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return nil, c.err
	}
	c.now.users++
	return c.now, nil
}

func (c *current) give(o *opening) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.users--
	_ = c.tidy(o) // it was only read
}

// tidy closes an opening that nobody uses any more; the caller holds mu.
func (c *current) tidy(o *opening) error {
	if !o.over || o.users > 0 || !c.all[o] {
		return nil
	}
	delete(c.all, o)
	return o.App.Close()
}

// put lets another opening answer from now on; none, for the reason in err.
func (c *current) put(o *opening, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.now
	c.now, c.err = o, err
	if o != nil {
		c.all[o] = true
	}
	if was != nil {
		was.over = true
		_ = c.tidy(was) // it was only read
	}
}

// changed tells whether the keys are not those that answers go by.
func (c *current) changed() bool {
	c.mu.Lock()
	o := c.now
	c.mu.Unlock()
	return o == nil || keyFiles(c.keys) != o.files
}

// renew opens the data directory anew. If that cannot be done, nobody answers: what
// was revoked would be shown as proven.
func (c *current) renew(ctx context.Context) error {
	var err error
	for try := range reopenTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(reopenWait):
			}
		}
		var o *opening
		if o, err = c.reopen(ctx); err == nil {
			c.put(o, nil)
			return nil
		}
	}
	c.put(nil, fault.Advise(fault.Unavailable, "It is tried again all the time; see the server's log.", "the keys of this data directory were changed, and it cannot be opened with them"))
	return err
}

func (c *current) reopen(ctx context.Context) (*opening, error) {
	files := keyFiles(c.keys)
	a, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	// If they were changed since, what was read is of before, or of after: it is asked
	// again soon.
	return &opening{App: a, files: files, outlook: a.Outlook(), catalog: a.Catalog()}, nil
}

// follow takes up changed keys until ctx ends.
func (c *current) follow(ctx context.Context, log *slog.Logger) {
	t := time.NewTicker(keysEvery)
	defer t.Stop()
	complained := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !c.changed() {
			continue
		}
		switch err := c.renew(ctx); {
		case err == nil:
			complained = ""
			log.Info("the keys were changed; from now on the server goes by them as they are")
		case ctx.Err() != nil:
		case err.Error() != complained: // once
			complained = err.Error()
			log.Error("the keys were changed and cannot be taken up; it is tried again, and until then nothing that rests on them is answered", "error", err)
		}
	}
}

// close closes all openings, also those that somebody still uses.
func (c *current) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.err = nil, fault.New(fault.Unavailable, "the server has ended")
	var err error
	for o := range c.all {
		err = errors.Join(err, o.App.Close())
	}
	clear(c.all)
	return err
}

// keyFiles names the files in the folder of keys as they are now.
func keyFiles(dir string) string {
	var b strings.Builder
	entries, err := os.ReadDir(dir)
	fmt.Fprint(&b, err)
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			fmt.Fprintf(&b, " %s %d %d", e.Name(), fi.Size(), fi.ModTime().UnixNano())
		}
	}
	return b.String()
}
