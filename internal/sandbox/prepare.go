package sandbox

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// supervisorMemory is when a supervisor begins to collect its garbage, in bytes.
const supervisorMemory = 64 << 20

// ground is what a supervisor makes before it knows its job.
type ground struct {
	dir    string // its working folder, in memory
	ids    idMap
	userns ownerNamespaces

	groups  map[string]string // see cgroupMounts
	noGroup string            // why there are no control groups; "" if there are
}

// prepare makes all of a sandbox that does not depend on the job.
func prepare(t task) (*ground, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mount /proc for the supervisor: %w", err)
	}
	ids, err := chooseIDs(t.ID)
	if err != nil {
		return nil, fault.Advise(fault.Unsupported, adviseHost("subuid", t.Rootless), "%w", err)
	}
	dir, err := workFolder(realPath(t.Runtime))
	if err != nil {
		return nil, err
	}
	if err := ownDevices(dir); err != nil {
		return nil, err
	}
	g := &ground{dir: dir, ids: ids, userns: ownerNamespaces{}}
	// Layers mostly belong to whoever runs this.
	if uid, gid := uint32(os.Geteuid()), uint32(os.Getegid()); uid != ids.UID || gid != ids.GID {
		g.userns.get(uid, gid, ids)
	}
	g.groups = cgroupMounts()
	g.noGroup = cgroupsUsable(g.groups)
	practise(t, g)
	return g, nil
}

// practise goes through the documents that a run reads and writes, whose types take
// encoding/json some milliseconds the first time. It changes nothing.
func practise(t task, g *ground) {
	j := job{task: t, Spec: Spec{Layers: []string{"/"}, Trees: []Tree{{}}, Files: []File{{}}, Args: []string{""}, Env: []string{"A=B"}, Vary: &Variation{}}}
	if doc, err := json.Marshal(j); err == nil {
		_ = json.Unmarshal(doc, new(job))
	}
	_, _ = json.Marshal(bundle(j, g.dir, g.ids, 1, true, false, nil))
	_, _ = json.Marshal(reply{Result: &Result{Facts: record.Facts{Facts: []record.Fact{{}}}, Measured: record.Measured{"": ""}, Network: []record.Attempt{{}}, Outputs: []Output{{}}}})
}
