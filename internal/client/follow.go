package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/fault"
)

// Event is how far the newest run of a project is.
type Event struct {
	Run     string      `json:"run"`
	State   string      `json:"state"`
	Message string      `json:"message"`
	Stage   string      `json:"stage"`
	Done    int         `json:"done"`
	Total   int         `json:"total"`
	Doing   []api.Doing `json:"doing"`
	Notes   []string    `json:"notes"`
}

// maxEvent bounds an event, in bytes.
const maxEvent = 1 << 20

// readEvents reads server-sent events (HTML Living Standard, 9.2) until r ends or
// tell says no, and gives those of type run. Other types and what cannot be read
// are passed over: the run itself is asked for at the end.
func readEvents(r io.Reader, tell func(Event) bool) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxEvent)
	var kind string
	var data []byte
	for s.Scan() {
		line := s.Bytes()
		switch name, value, _ := bytes.Cut(line, []byte(":")); {
		case len(line) == 0:
			var e Event
			if kind == "run" && json.Unmarshal(data, &e) == nil && !tell(e) {
				return nil
			}
			kind, data = "", data[:0]
		case string(name) == "event":
			kind = string(bytes.TrimPrefix(value, []byte(" ")))
		case string(name) == "data":
			if len(data)+len(value) > maxEvent {
				return fault.New(fault.Hostile, "an event has more than %d bytes", maxEvent)
			}
			if len(data) > 0 {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
		}
	}
	return s.Err()
}

// How often a run is asked for when no event comes, and how long it may give no
// answer at all.
const (
	askAgain = 5 * time.Second
	patience = 2 * time.Minute
)

// Follow tells what a run does until it has ended, and gives it then. A server that
// is away for a while is waited for.
func (c *Client) Follow(ctx context.Context, name, id string, tell func(Event)) (api.Run, error) {
	path, err := under(name, "/events")
	if err != nil {
		return api.Run{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan Event)
	go c.listen(ctx, path, events)
	heard := time.Now()
	for {
		ended := false
		select {
		case <-ctx.Done():
			return api.Run{}, ctx.Err()
		case e := <-events:
			if e.Run != id { // another one since, so this has ended
				ended = true
				break
			}
			heard = time.Now()
			tell(e)
			ended = api.Run{State: e.State}.Done()
		case <-time.After(askAgain):
			ended = true // perhaps
		}
		if !ended {
			continue
		}
		r, err := c.Run(ctx, name, id)
		switch {
		case err == nil && r.Done():
			return r, nil
		case err == nil:
			heard = time.Now()
		case !fault.Is(err, fault.Unavailable) || time.Since(heard) > patience:
			return api.Run{}, err
		}
	}
}

// listen hears the project's events until ctx ends.
func (c *Client) listen(ctx context.Context, path string, events chan<- Event) {
	for ctx.Err() == nil {
		req, err := c.request(ctx, http.MethodGet, path, nil, nil)
		if err != nil {
			return
		}
		req.Header.Set("Accept", "text/event-stream")
		if res, err := c.send(req); err == nil {
			_ = readEvents(res.Body, func(e Event) bool { // what is lost is asked for
				select {
				case events <- e:
					return true
				case <-ctx.Done():
					return false
				}
			})
			res.Body.Close()
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}
