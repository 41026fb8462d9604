package blob

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"hallmark/internal/digest"
)

// Stamp says which file a blob is, without reading it: size, number, and when
// content and status were last changed. While it is the same, nobody wrote to the
// file by way of the file system, since the time of the status cannot be set; a
// disk that changed the bytes by itself shows only when they are read. The zero
// Stamp is a blob that is not there.
type Stamp struct {
	Size, Inode, Content, Status int64
}

// Stamp gives a blob's stamp; zero if it is not there or cannot be looked at.
func (s *Store) Stamp(d digest.Digest) Stamp {
	if !d.Valid() {
		return Stamp{}
	}
	h := d.Hex()
	var st unix.Stat_t
	for {
		err := unix.Lstat(s.dir+"/"+hashDir+"/"+h[:2]+"/"+h, &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Stamp{}
		}
		return Stamp{st.Size, int64(st.Ino), st.Mtim.Nano(), st.Ctim.Nano()}
	}
}

// Stamps gives one digest over the stamps of blobs, in their order.
func (s *Store) Stamps(ds []digest.Digest) digest.Digest {
	const each = 32
	all := make([]byte, len(ds)*each)
	parts := runtime.GOMAXPROCS(0)
	size := (len(ds) + parts - 1) / parts
	var wg sync.WaitGroup
	for from := 0; from < len(ds); from += size {
		wg.Go(func() {
			for i := from; i < min(from+size, len(ds)); i++ {
				st := s.Stamp(ds[i])
				b := all[i*each : i*each : (i+1)*each]
				for _, v := range []int64{st.Size, st.Inode, st.Content, st.Status} {
					b = binary.BigEndian.AppendUint64(b, uint64(v))
				}
			}
		})
	}
	wg.Wait()
	sum := sha256.New()
	sum.Write(all)
	return digest.FromHash(sum)
}
