package status

import (
	"hallmark/internal/digest"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Failure is why our own build of an artifact did not succeed, as the build that
// failed tells it. What its lines say is the build's own word: shown, never
// believed.
type Failure struct {
	Step    digest.Digest  `json:"step"`
	Build   string         `json:"build"`   // its id
	Purpose record.Purpose `json:"purpose"` // first, rebuild, or query: its backend was asked
	record.Failure
	WholeLog digest.Digest `json:"whole_log,omitempty"` // as a blob; empty: it was not kept
}

// FailureOf gives the failure that lies in an artifact, or in a step's package,
// itself; nil if there is none.
func FailureOf(in Input, u purl.PURL) *Failure {
	v := &view{Input: in, g: newGraph(in.Plan), states: map[*node]Status{}}
	n, ok := v.g.nodes[u]
	if !ok {
		return nil
	}
	return v.failure(n)
}

// failure looks for the build of a node that failed and counts: the query that
// nobody could plan past, the last first build if none succeeded, or the last
// rebuild.
func (in *view) failure(n *node) *Failure {
	if n == nil {
		return nil
	}
	if n.unplanned != nil {
		return failed(in.Steps[n.unplanned.Query], n.unplanned.Query, func(b StepBuild) bool { return b.Purpose == record.Query })
	}
	st := in.Steps[n.step]
	if !completed(st) {
		return failed(st, n.step, func(b StepBuild) bool { return b.Purpose == record.First })
	}
	if rs := st.Rebuilds; len(rs) > 0 && rs[len(rs)-1].Outcome == record.CouldNotBuild {
		second := rs[len(rs)-1].Second
		return failed(st, n.step, func(b StepBuild) bool { return b.ID == second })
	}
	return nil
}

// failed gives the last build of a step that failed by its own fault.
func failed(st Step, id digest.Digest, which func(StepBuild) bool) *Failure {
	for i := len(st.Builds) - 1; i >= 0; i-- {
		b := st.Builds[i]
		if b.Revoked || b.Outcome != record.Failed || b.Failure == nil || b.Failure.Class == record.FailDependency || !which(b) {
			continue
		}
		return &Failure{Step: id, Build: b.ID, Purpose: b.Purpose, Failure: *b.Failure, WholeLog: b.Log}
	}
	return nil
}
