package schemas_test

import (
	"testing"
	"time"

	"hallmark/internal/purl"
	"hallmark/internal/remedy"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
)

func standingOfSample() remedy.Standing {
	in := statustest.Sample()
	d, v := status.Build(in)
	return remedy.Standing{Document: d, Policy: in.Policy, Prospects: remedy.Prospects(d, v, nil, false)}
}

func TestEffect(t *testing.T) {
	s := standingOfSample()
	check(t, "effect.v1", remedy.Compare(nil, s))
	empty := remedy.Standing{Document: status.Document{Project: "acme/web"}, Prospects: map[purl.PURL]remedy.Prospect{}}
	e := remedy.Compare(&s, empty)
	seconds := 12.5
	e.Work.Seconds = &seconds
	check(t, "effect.v1", e)
}

func TestReport(t *testing.T) {
	s := standingOfSample()
	var ws []remedy.Waiver
	for _, r := range s.Document.Artifacts {
		ws = append(ws, remedy.Waiver{PURL: r.PURL, Owner: "ann", Reason: "until the port", Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	}
	check(t, "report.v1", remedy.NewReport(remedy.ReportInput{Standing: s, RequireSecure: true, Waivers: ws}))
	check(t, "report.v1", remedy.NewReport(remedy.ReportInput{Standing: s, RequireSecure: true}))
}
