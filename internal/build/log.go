package build

import (
	"bytes"
	"fmt"
)

// keptLog bounds each of the two ends of a build's log that are kept, in bytes:
// the beginning says how it was configured, the end how it ended.
const keptLog = 8 << 20

// logKeeper takes a build's output: it keeps the beginning and the end, counts
// what is between, and looks through all of it for what must not be missed in
// the middle of a long log. A compiler's warnings alone can be a hundred
// megabytes, which is no reason to fail. It is written to by one goroutine.
type logKeeper struct {
	each  int    // bytes of each end; 0: keptLog
	head  []byte // the beginning, at most each bytes
	tail  []byte // what came last, at most each bytes, from at on round
	at    int
	total int64
	scan  []byte // the last bytes that were looked through, for what lies across two writes
	found []byte // the first match of native
}

// overlap is more than any match of native can be long.
const overlap = 64

// Write is io.Writer's; it never fails.
func (k *logKeeper) Write(p []byte) (int, error) {
	if k.each == 0 {
		k.each = keptLog
	}
	n := len(p)
	k.total += int64(n)
	if k.found == nil {
		seen := append(k.scan, p...)
		if bytes.Contains(seen, []byte("=native")) { // which is found much faster
			k.found = bytes.Clone(native().Find(seen))
		}
		k.scan = append(k.scan[:0], seen[max(0, len(seen)-overlap):]...)
	}
	if room := k.each - len(k.head); room > 0 {
		c := min(room, len(p))
		k.head = append(k.head, p[:c]...)
		p = p[c:]
	}
	if len(p) > k.each {
		p = p[len(p)-k.each:]
		k.tail, k.at = k.tail[:0], 0
	}
	for len(p) > 0 {
		if len(k.tail) < k.each {
			c := min(k.each-len(k.tail), len(p))
			k.tail = append(k.tail, p[:c]...)
			p = p[c:]
			continue
		}
		c := copy(k.tail[k.at:], p)
		k.at = (k.at + c) % k.each
		p = p[c:]
	}
	return n, nil
}

// Bytes gives what was kept, with a line that says how much is left out where
// something is. Neither end is cut within a line.
func (k *logKeeper) Bytes() []byte {
	tail := append(bytes.Clone(k.tail[k.at:]), k.tail[:k.at]...)
	left := k.total - int64(len(k.head)) - int64(len(tail))
	if left == 0 {
		return append(bytes.Clone(k.head), tail...)
	}
	head := k.head
	if i := bytes.LastIndexByte(head, '\n'); i >= 0 {
		left += int64(len(head) - i - 1)
		head = head[:i+1]
	}
	if i := bytes.IndexByte(tail, '\n'); i >= 0 {
		left += int64(i + 1)
		tail = tail[i+1:]
	}
	b := fmt.Appendf(bytes.Clone(head), "[… %d bytes of the log are left out here …]\n", left)
	return append(b, tail...)
}
