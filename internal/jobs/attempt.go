package jobs

import "io"

// AttemptSchema is the type of the document about what an attempt at a run did.
const AttemptSchema = "urn:hallmark:attempt:v1"

// Attempt is what a go at a run did, kept when it has ended.
type Attempt struct {
	Schema string   `json:"schema"`
	Run    string   `json:"run"`
	Steps  []Step   `json:"steps"`
	Notes  []string `json:"notes"`
}

// did tells what was done so far.
func (p *Progress) did() Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Attempt{Schema: AttemptSchema, Run: p.state.Run, Steps: append([]Step{}, p.live.Steps()...), Notes: append([]string{}, p.state.Notes...)}
}

// Stored gives a piece of a log that is stored, as Live.Said gives one that is in
// memory: what comes after its first at bytes, at most the newest. It reads all of r.
func Stored(r io.Reader, at int64) (Said, error) {
	t := &tail{limit: maxSaid, tell: func() {}}
	if _, err := io.Copy(t, r); err != nil {
		return Said{}, err
	}
	t.ended = true
	return t.from(at), nil
}
