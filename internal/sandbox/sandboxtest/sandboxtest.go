// Package sandboxtest gives tests the OCI runtimes that Debian does not package.
// It skips nothing: a runtime that cannot be had fails the test.
package sandboxtest

import (
	"testing"

	"hallmark/internal/evidence/evidencetest"
)

// RunscVersion is the version of gVisor that the tests run under.
const RunscVersion = "v0.0.0-20260905035102-160fafc42237"

// Runsc gives the path of gVisor's OCI runtime. The first time it is compiled,
// which takes minutes; then it is kept in the user's cache folder.
func Runsc(t testing.TB) string {
	t.Helper()
	return evidencetest.GoTool(t, "runsc", "gvisor.dev/gvisor/runsc", RunscVersion)
}
