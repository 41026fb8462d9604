package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"testing"
)

// runEnv makes the test program a control process of its own: its value is a
// helperRun as JSON.
const runEnv = "HALLMARK_TEST_RUN"

type helperRun struct {
	StateDir string
	Spec     Spec
	Check    bool
}

func TestMain(m *testing.M) {
	if doc := os.Getenv(runEnv); doc != "" {
		os.Exit(helper(doc))
	}
	os.Exit(m.Run())
}

func helper(doc string) int {
	var h helperRun
	if err := json.Unmarshal([]byte(doc), &h); err != nil {
		panic(err)
	}
	h.Spec.Log = os.Stderr
	r, err := Open(Config{StateDir: h.StateDir})
	var res *Result
	if err == nil && h.Check {
		err = r.Check(context.Background())
	}
	if err == nil {
		res, err = r.Run(context.Background(), h.Spec)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(res); err != nil {
		return 1
	}
	return 0
}
