package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAnswerIsReadWhole: the answer of a supervisor comes in pieces, and one that
// breaks off, or is too long, is none.
func TestAnswerIsReadWhole(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 20000) // more than one read
	framed := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	for name, c := range map[string]struct {
		said []byte
		want []byte
		err  error
	}{
		"empty answer": {framed(nil), []byte{}, nil},
		"in pieces":    {framed(long), long, nil},
		"nothing":      {nil, nil, io.EOF},
		"half":         {framed(long)[:1000], nil, io.EOF},
		"half a head":  {[]byte{0, 0}, nil, io.EOF},
		"too long":     {binary.BigEndian.AppendUint32(nil, maxAnswer+1), nil, errAnswerTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			p := &supervisorProcess{ended: make(chan struct{})}
			if p.answer, err = unixConn(pair[0]); err != nil {
				t.Fatal(err)
			}
			defer p.answer.Close()
			go func() {
				f := os.NewFile(uintptr(pair[1]), "supervisor")
				_, _ = f.Write(c.said)
				f.Close()
			}()
			got, err := p.read()
			if !errors.Is(err, c.err) || !bytes.Equal(got, c.want) {
				t.Errorf("%d bytes, %v; want %d, %v", len(got), err, len(c.want), c.err)
			}
		})
	}
}

// TestDescriptorsAreKeptUntilTheEnd: who closes a socket last waits for the kernel,
// so what a supervisor hands over is closed after its end and not before.
func TestDescriptorsAreKeptUntilTheEnd(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &supervisorProcess{ended: make(chan struct{})}
	if p.answer, err = unixConn(pair[0]); err != nil {
		t.Fatal(err)
	}
	defer p.answer.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := handOver
	handOver = []int{int(w.Fd())}
	err = answer(pair[1], []byte("x"))
	handOver = before
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.read(); err != nil || string(got) != "x" {
		t.Fatalf("%q, %v", got, err)
	}
	fds := []unix.PollFd{{Fd: int32(r.Fd())}}
	if n, err := unix.Poll(fds, 50); err != nil || n != 0 {
		t.Fatalf("closed too early: %d, %v", n, err)
	}
	close(p.ended)
	if n, err := unix.Poll(fds, 5000); err != nil || n != 1 || fds[0].Revents&unix.POLLHUP == 0 {
		t.Errorf("not closed: %d, %v", n, err)
	}
}
