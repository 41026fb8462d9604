package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// devices are the nodes that a runtime gives to every sandbox: name and minor
// number of the memory devices (major 1), and the terminal.
var devices = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// ownDevices lays device nodes of the supervisor's own over those of the host, in
// the supervisor's mount namespace. A runtime that may not make nodes binds the
// host's into the sandbox; with those, builds would share the locks that flock(2)
// keeps on an inode with one another and with the host. It does nothing where
// nodes cannot be made, which is so without root.
func ownDevices(dir string) error {
	at := dir + "/dev"
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("mount a memory file system for devices: %w", err)
	}
	for _, d := range devices {
		node := at + "/" + d.name
		if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return nil
		}
		if err := os.Chmod(node, 0o666); err != nil { // whatever the umask
			return err
		}
		if f, err := os.OpenFile(node, os.O_RDONLY, 0); err == nil {
			f.Close()
		} else if d.name != "tty" { // there is no terminal to open
			return nil // a node that cannot be used, as in a user namespace
		}
	}
	for _, d := range devices {
		if err := unix.Mount(at+"/"+d.name, "/dev/"+d.name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("lay a device of our own over /dev/%s: %w", d.name, err)
		}
	}
	return nil
}
