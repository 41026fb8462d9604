package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sort"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"hallmark/internal/record"
)

const (
	maxAttempts = 100
	// maxTarget bounds a name that a build made up.
	maxTarget = 255
)

// watcher sees what goes out on a sandbox's loopback interface. All addresses
// there are routed to loopback (Linux's "AnyIP"), so that whatever a build
// reaches for becomes a packet that can be seen, and is refused at once.
type watcher struct {
	fd   int
	stop [2]int // a pipe that ends the reader
	done chan struct{}

	mu       sync.Mutex
	attempts map[record.Attempt]int // guarded by mu; the key's Count is 0
	more     bool                   // guarded by mu; there were more targets than maxAttempts
}

// watchNetwork begins to watch the network namespace of a process. It must be
// called before that process may act.
func watchNetwork(pid int) (*watcher, error) {
	w := &watcher{attempts: map[record.Attempt]int{}, done: make(chan struct{})}
	errc := make(chan error, 1)
	go func() {
		// The thread is in another namespace afterwards; it is never unlocked, so
		// that it ends with this goroutine.
		runtime.LockOSThread()
		errc <- w.enter(pid)
	}()
	if err := <-errc; err != nil {
		return nil, fmt.Errorf("watch the network of the sandbox: %w", err)
	}
	if err := unix.Pipe2(w.stop[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	go w.read()
	return w, nil
}

func (w *watcher) enter(pid int) error {
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	w.fd = fd
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err := attachFilter(fd); err != nil {
		return fmt.Errorf("filter packets: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: lo.Attrs().Index}); err != nil {
		return err
	}
	for _, all := range []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	} {
		err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all,
			Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST})
		if err != nil && all.IP.To4() != nil {
			return fmt.Errorf("route all addresses to loopback: %w", err)
		}
		// A kernel without IPv6 has nothing to reach for there.
	}
	return nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// attachFilter keeps the traffic that stays on loopback, which may be much,
// away from us: of IPv4 to 127.0.0.0/8 only packets to port 53, of other TCP
// only what opens a connection. IPv6 is looked at in Go.
func attachFilter(fd int) error {
	const (
		ether  = 14
		accept = 512 // bytes of each packet that we want
	)
	raw, err := bpf.Assemble([]bpf.Instruction{
		/* 0 */ bpf.LoadExtension{Num: bpf.ExtType},
		/* 1 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipFalse: 18}, // -> 20
		/* 2 */ bpf.LoadAbsolute{Off: 12, Size: 2},
		/* 3 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IP, SkipFalse: 17}, // -> 21
		/* 4 */ bpf.LoadMemShift{Off: ether}, // X = length of the IP header
		/* 5 */ bpf.LoadAbsolute{Off: ether + 16, Size: 1},
		/* 6 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: 127, SkipFalse: 6}, // -> 13
		/* 7 */ bpf.LoadAbsolute{Off: ether + 9, Size: 1},
		/* 8 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
		/* 9 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipFalse: 10}, // -> 20
		/* 10 */ bpf.LoadIndirect{Off: ether + 2, Size: 2},
		/* 11 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: 53, SkipFalse: 8}, // -> 20
		/* 12 */ bpf.Jump{Skip: 8}, // -> 21
		/* 13 */ bpf.LoadAbsolute{Off: ether + 9, Size: 1},
		/* 14 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipFalse: 6}, // -> 21
		/* 15 */ bpf.LoadAbsolute{Off: ether + 6, Size: 2},
		/* 16 */ bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 3}, // a later fragment -> 20
		/* 17 */ bpf.LoadIndirect{Off: ether + 13, Size: 1},
		/* 18 */ bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x12},
		/* 19 */ bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x02, SkipTrue: 1}, // -> 21
		/* 20 */ bpf.RetConstant{Val: 0},
		/* 21 */ bpf.RetConstant{Val: accept},
	})
	if err != nil {
		return err
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

func (w *watcher) read() {
	defer close(w.done)
	buf := make([]byte, 2048)
	for {
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for {
			n, _, err := unix.Recvfrom(w.fd, buf, 0)
			if err != nil {
				break
			}
			for _, a := range readPacket(buf[:n]) {
				w.add(a)
			}
		}
		if fds[1].Revents != 0 {
			return // the processes were gone before we were told, so all is read
		}
	}
}

func (w *watcher) add(a record.Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.attempts[a]; !ok && len(w.attempts) >= maxAttempts-1 {
		w.more = true
		return
	}
	w.attempts[a]++
}

// finish reads what is left and gives all attempts. It must be called after the
// last process of the sandbox is gone: loopback hands packets over at once, so
// nothing is on its way then.
func (w *watcher) finish() []record.Attempt {
	_, _ = unix.Write(w.stop[1], []byte{1})
	<-w.done
	if st, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil || st.Drops > 0 {
		w.more = true // fail closed: something was not seen
	}
	// To close it the kernel waits until nobody looks at the socket any more, some
	// milliseconds.
	handOver = append(handOver, w.fd)
	unix.Close(w.stop[0])
	unix.Close(w.stop[1])
	out := make([]record.Attempt, 0, len(w.attempts)+1)
	for a, n := range w.attempts {
		a.Count = n
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Kind != b.Kind {
			return a.Kind > b.Kind // look-ups first: they have names
		}
		if a.Target != b.Target {
			return a.Target < b.Target
		}
		return a.Proto < b.Proto
	})
	if w.more {
		out = append(out, record.Attempt{Kind: "connect", Target: "more than were counted", Count: 1})
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// readPacket says what one packet, as it left on loopback with its Ethernet
// header, was reaching for; nil if it stayed inside.
func readPacket(p []byte) []record.Attempt {
	if len(p) < 14 {
		return nil
	}
	switch binary.BigEndian.Uint16(p[12:]) {
	case unix.ETH_P_IP:
		return readIPv4(p[14:])
	case unix.ETH_P_IPV6:
		return readIPv6(p[14:])
	}
	return nil
}

func readIPv4(p []byte) []record.Attempt {
	if len(p) < 20 || p[0]>>4 != 4 {
		return nil
	}
	head := int(p[0]&15) * 4
	if head < 20 || head > len(p) {
		return nil
	}
	if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 {
		return nil // the first fragment told
	}
	to := netip.AddrFrom4([4]byte(p[16:20]))
	return readTransport(to, p[9], p[head:])
}

func readIPv6(p []byte) []record.Attempt {
	if len(p) < 40 || p[0]>>4 != 6 {
		return nil
	}
	to := netip.AddrFrom16([16]byte(p[24:40]))
	next, rest := p[6], p[40:]
	for range 8 { // extension headers (RFC 8200, section 4)
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination
			if len(rest) < 8 {
				return nil
			}
			n := int(rest[1])*8 + 8
			if n > len(rest) {
				return nil
			}
			next, rest = rest[0], rest[n:]
			continue
		case 44: // fragment
			if len(rest) < 8 || binary.BigEndian.Uint16(rest[2:])&^7 != 0 {
				return nil
			}
			next, rest = rest[0], rest[8:]
			continue
		}
		break
	}
	return readTransport(to, next, rest)
}

// readTransport tells openings from replies: with all addresses local, the
// answer of a refused connection goes "out" as well.
func readTransport(to netip.Addr, proto byte, p []byte) []record.Attempt {
	to = to.Unmap()
	local := to.IsLoopback()
	port := func(proto string) (uint16, record.Attempt) {
		n := binary.BigEndian.Uint16(p[2:])
		return n, record.Attempt{Kind: "connect", Target: netip.AddrPortFrom(to, n).String(), Proto: proto}
	}
	switch proto {
	case unix.IPPROTO_TCP:
		if len(p) < 14 || p[13]&0x12 != 0x02 { // SYN without ACK
			return nil
		}
		n, a := port("tcp")
		if n == 53 && local {
			return []record.Attempt{{Kind: "lookup", Target: "a name, asked for over TCP", Proto: "tcp"}}
		}
		if local {
			return nil
		}
		return []record.Attempt{a}
	case unix.IPPROTO_UDP:
		if len(p) < 8 {
			return nil
		}
		n, a := port("udp")
		var out []record.Attempt
		if n == 53 {
			out = readQuery(p[8:])
			if local && len(out) == 0 {
				out = []record.Attempt{{Kind: "lookup", Target: "something that is no question", Proto: "udp"}}
			}
		}
		if !local {
			out = append(out, a)
		}
		return out
	case unix.IPPROTO_ICMP:
		if local || len(p) < 1 || p[0] != 8 { // only echo requests; the rest are answers
			return nil
		}
		return []record.Attempt{{Kind: "connect", Target: to.String(), Proto: "icmp"}}
	case unix.IPPROTO_ICMPV6:
		if local || len(p) < 1 || p[0] != 128 {
			return nil
		}
		return []record.Attempt{{Kind: "connect", Target: to.String(), Proto: "icmpv6"}}
	default:
		if local {
			return nil
		}
		return []record.Attempt{{Kind: "connect", Target: to.String(), Proto: fmt.Sprintf("ip-protocol-%d", proto)}}
	}
}

// readQuery gives the names that a DNS query asks for (RFC 1035, section 4.1).
func readQuery(p []byte) []record.Attempt {
	var q dnsmessage.Parser
	if _, err := q.Start(p); err != nil {
		return nil
	}
	var out []record.Attempt
	for range 4 {
		question, err := q.Question()
		if err != nil {
			break
		}
		out = append(out, record.Attempt{Kind: "lookup", Target: printable(strings.TrimSuffix(question.Name.String(), ".")), Proto: "udp"})
	}
	return out
}

// printable makes a build's bytes fit for evidence.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxTarget {
		s = s[:maxTarget]
	}
	return s
}
