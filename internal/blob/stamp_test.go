package blob

import (
	"os"
	"testing"
	"time"

	"hallmark/internal/digest"
)

// TestStamp: whatever is done to a blob's file through the file system changes
// its stamp, even if size and time are put back.
func TestStamp(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var ds []digest.Digest
	for _, c := range []string{"a", "b", "c"} {
		d, err := s.PutBytes(t.Context(), []byte(c))
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	before, all := s.Stamp(ds[0]), s.Stamps(ds)
	if before == (Stamp{}) || before.Size != 1 || before != s.Stamp(ds[0]) || all != s.Stamps(ds) {
		t.Fatalf("stamp %+v", before)
	}
	if all == s.Stamps(ds[:2]) || all == s.Stamps([]digest.Digest{ds[1], ds[0], ds[2]}) {
		t.Error("the stamps of other blobs, or in another order, are the same")
	}
	path := s.Path(ds[0])
	at := time.Unix(0, before.Content)
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"written to", func() error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0) // as root may
			if err != nil {
				if err = os.Chmod(path, 0o644); err != nil {
					return err
				}
				if f, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
					return err
				}
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("x"), 0); err != nil {
				return err
			}
			return os.Chtimes(path, at, at)
		}},
		{"replaced", func() error {
			if err := os.WriteFile(path+".new", []byte("y"), 0o444); err != nil {
				return err
			}
			if err := os.Chtimes(path+".new", at, at); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}},
		{"removed", func() error { return os.Remove(path) }},
	} {
		was := s.Stamp(ds[0])
		time.Sleep(20 * time.Millisecond) // coarser clocks of file systems
		if err := c.change(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if now := s.Stamp(ds[0]); now == was || s.Stamps(ds) == all {
			t.Errorf("%s: the stamp is still %+v", c.name, now)
		}
	}
	if s.Stamp("nonsense") != (Stamp{}) {
		t.Error("no digest has a stamp")
	}
}
