package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkNoop compares a whole run of a command that does nothing (root made,
// facts read, network watched, output taken and hashed) with what bare runc takes
// for the same command and the same bundle, the two in turns. It reports the
// medians in milliseconds and their ratio.
func BenchmarkNoop(b *testing.B) {
	if testing.Short() {
		b.Skip("-short: needs an OCI runtime and packages")
	}
	layers, err := testLayersOnce()
	if err != nil {
		b.Fatal(err)
	}
	r, err := Open(Config{StateDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}

	spec := Spec{Layers: layers, Args: []string{"true"}}
	bare, end, err := bareRunc(r, spec)
	if err != nil {
		b.Fatal(err)
	}
	defer end()
	var ours, theirs, ourCPU, theirCPU []float64
	took := func(f func() error) (wall, cpu float64) {
		begin, before := time.Now(), cpuTime()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		return float64(time.Since(begin).Microseconds()) / 1000, cpuTime() - before
	}
	for b.Loop() {
		wall, cpu := took(func() error {
			out, err := os.MkdirTemp("", "hallmark-noop-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(out)
			s := spec
			s.OutputDir = out
			res, err := r.Run(context.Background(), s)
			if err == nil && res.Exit != 0 {
				err = fmt.Errorf("exit %d", res.Exit)
			}
			return err
		})
		ours, ourCPU = append(ours, wall), append(ourCPU, cpu)
		wall, cpu = took(bare)
		theirs, theirCPU = append(theirs, wall), append(theirCPU, cpu)
	}
	for _, l := range [][]float64{ours, theirs, ourCPU, theirCPU} {
		slices.Sort(l)
	}
	a, c := ours[len(ours)/2], theirs[len(theirs)/2]
	b.ReportMetric(a, "ms/run")
	b.ReportMetric(c, "ms/runc")
	b.ReportMetric(a/c, "ratio")
	b.ReportMetric(ours[0]/theirs[0], "ratio-of-fastest")
	// What a busy machine does not change.
	b.ReportMetric(ourCPU[len(ourCPU)/2]/theirCPU[len(theirCPU)/2], "ratio-of-cpu")
	b.ReportMetric(ourCPU[len(ourCPU)/2], "cpu-ms/run")
	b.ReportMetric(theirCPU[len(theirCPU)/2], "cpu-ms/runc")
}

// cpuTime is what this process and those that it waited for have used, in
// milliseconds.
func cpuTime() float64 {
	var sum int64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += u.Utime.Nano() + u.Stime.Nano()
		}
	}
	return float64(sum) / 1e6
}

// bareRunc makes the root of a Spec once, in a mount namespace of one thread, and
// gives a function that has runc run the bundle in it.
func bareRunc(r *Runner, spec Spec) (run func() error, end func(), err error) {
	if err := validate(&spec); err != nil {
		return nil, nil, err
	}
	j := job{task: task{ID: newID(), Runtime: r.runtime}, Version: r.Runtime(), Program: r.Program(), Spec: spec}
	calls, errs, ready := make(chan bool), make(chan error), make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		dir, err := bareBundle(j)
		ready <- err
		if err != nil {
			return
		}
		for range calls {
			cmd := exec.Command(r.runtime, "--root", dir+"/state", "run", "--bundle", dir+"/bundle", j.ID)
			cmd.Env, cmd.Dir = runtimeEnv, dir+"/bundle"
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			err := cmd.Run()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, said.String())
			}
			errs <- err
		}
	}()
	if err := <-ready; err != nil {
		return nil, nil, err
	}
	return func() error { calls <- true; return <-errs }, func() { close(calls); removeCgroups(j.ID) }, nil
}

func bareBundle(j job) (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	ids, err := chooseIDs(j.ID)
	if err != nil {
		return "", err
	}
	layers, err := openLayers(j.Spec.Layers)
	if err != nil {
		return "", err
	}
	dir, err := workFolder(realPath(j.Runtime))
	if err != nil {
		return "", err
	}
	if err := prepareFolders(dir, j.Spec.Limits, [2]int{int(ids.UID) + buildUID, int(ids.GID) + buildGID}); err != nil {
		return "", err
	}
	if err := attachLayers(layers, dir+"/l", ids, ownerNamespaces{}); err != nil {
		return "", err
	}
	if err := mountOverlay(dir, len(layers), false); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir + "/root")
	if err != nil {
		return "", err
	}
	defer root.Close()
	cpus := runtime.NumCPU()
	if err := fillRoot(root, &j.Spec, nil, ids, cpus); err != nil {
		return "", err
	}
	for _, f := range procFiles(cpus) {
		if err := os.MkdirAll(filepath.Dir(dir+"/own"+f.Path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(dir+"/own"+f.Path, f.Data, 0o444); err != nil {
			return "", err
		}
	}
	groups := cgroupMounts()
	usable := cgroupsUsable(groups) == ""
	spec := bundle(j, dir, ids, cpus, usable, pureCgroup2(groups), nil)
	spec.Process.Args = j.Spec.Args
	doc, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir+"/bundle", 0o700); err != nil {
		return "", err
	}
	return dir, os.WriteFile(dir+"/bundle/config.json", doc, 0o600)
}
