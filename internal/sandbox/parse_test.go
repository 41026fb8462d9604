package sandbox

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/record"

	"golang.org/x/sys/unix"
)

func FuzzReadPacket(f *testing.F) {
	udp := []byte{0, 1, 0, 53, 0, 40, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1}
	four := append([]byte{0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1}, udp...)
	f.Add(append(binary.BigEndian.AppendUint16(make([]byte, 12), 0x0800), four...))
	six := append([]byte{0x60, 0, 0, 0, 0, 40, 6, 64}, make([]byte, 72)...)
	f.Add(append(binary.BigEndian.AppendUint16(make([]byte, 12), 0x86dd), six...))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, a := range readPacket(p) {
			if a.Target == "" && a.Kind == "connect" || len(a.Target) > maxTarget || strings.ContainsAny(a.Target, "\n\x00") || a.Count != 0 {
				t.Errorf("%+v", a)
			}
		}
	})
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add([]byte("22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw\n27 1 254:0 /a\\040b / ro - ext4 /dev/vda rw\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseMountinfo(b)
		if err == nil && len(entries) > strings.Count(string(b), "\n")+1 {
			t.Error("more entries than lines")
		}
	})
}

// FuzzParseStatus: a line says what it says, whatever lines stand around it.
func FuzzParseStatus(f *testing.F) {
	f.Add("Name:\tsh\nSeccomp:\t2\nUid:\t0\t0\t0\t0\n", "x:y:z\nno colon\n:\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		alone := parseStatus(b)
		for k, v := range parseStatus(a + "\n" + b) {
			if strings.ContainsAny(k+v, "\n") || strings.TrimSpace(v) != v {
				t.Fatalf("%q: %q %q", a, k, v)
			}
			if w, ok := alone[k]; ok && v != w {
				t.Fatalf("%q behind %q: %s is %q, not %q", b, a, k, v, w)
			}
		}
	})
}

func FuzzReadQuery(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(readQuery(b)) > 4 {
			t.Error("too many")
		}
	})
}

func TestParseMountinfo(t *testing.T) {
	got, err := parseMountinfo([]byte("27 1 254:0 /a\\040b /mnt\\011x ro,nosuid master:1 - overlay overlay rw,lowerdir=0:1,upperdir=../rw/upper\n"))
	if err != nil || len(got) != 1 || got[0].Root != "/a b" || got[0].Point != "/mnt\tx" || !got[0].RO {
		t.Fatalf("%+v %v", got, err)
	}
	for _, super := range []string{got[0].Super, "rw,lowerdir+=0,lowerdir+=1,upperdir=../rw/upper"} {
		if o := overlayOptions(super); !slices.Equal(o["lowerdir"], []string{"0", "1"}) || o["upperdir"][0] != "../rw/upper" {
			t.Errorf("%s: %v", super, o)
		}
	}
	if _, err := parseMountinfo([]byte("nonsense\n")); err == nil {
		t.Error("nonsense was read")
	}
}

func TestFaketimeIsOneNumberAndOneUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{9601 * time.Hour: "+9601h", -time.Hour: "-1h", 90 * time.Second: "+90"} {
		if got := faketime(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestProfileIsTheSameEveryTime(t *testing.T) {
	d1, b1 := profileDocument()
	d2, b2 := (&Runner{}).Profile()
	if string(d1) != d2 || string(b1) != string(b2) {
		t.Error("two profiles")
	}
	for _, no := range []string{"/root", "/home", "/work", "/mnt"} {
		if no != "/root" && strings.Contains(string(b1), no) {
			t.Errorf("the profile names %s", no)
		}
	}
}

func TestEnvironmentIsSortedAndTheSpecWins(t *testing.T) {
	env := environment([]string{"HOME=/x", "B=="}, "B=2")
	if !slices.IsSorted(env) || !slices.Contains(env, "HOME=/x") || !slices.Contains(env, "B=2") || slices.Contains(env, "HOME=/build") {
		t.Error(env)
	}
}

func TestLimitsDefault(t *testing.T) {
	if got := (Limits{Disk: 5}).orDefault(); got.Disk != 5 || got.Memory != DefaultLimits().Memory || got.Wall != time.Hour {
		t.Errorf("%+v", got)
	}
}

func TestWatcherBoundsWhatItKeeps(t *testing.T) {
	w := &watcher{attempts: map[record.Attempt]int{}}
	for i := range 1000 {
		w.add(record.Attempt{Kind: "connect", Target: strings.Repeat("x", i)})
	}
	if len(w.attempts) != maxAttempts-1 || !w.more {
		t.Errorf("%d kept", len(w.attempts))
	}
}

// Second builds have one CPU each; side by side they must not have the same one.
func TestSomeCPUs(t *testing.T) {
	var set unix.CPUSet
	for _, i := range []int{1, 3, 4, 70} {
		set.Set(i)
	}
	for _, c := range []struct {
		n, first int
		want     []int
	}{{1, 0, []int{1}}, {1, 1, []int{3}}, {1, 3, []int{70}}, {1, 4, []int{1}}, {2, 3, []int{70, 1}}, {9, 2, []int{1, 3, 4, 70}}, {1, -5, []int{1}}} {
		got := someCPUs(set, c.n, c.first)
		if got.Count() != len(c.want) {
			t.Errorf("%d from %d: %d CPUs", c.n, c.first, got.Count())
		}
		for _, i := range c.want {
			if !got.IsSet(i) {
				t.Errorf("%d from %d: without CPU %d", c.n, c.first, i)
			}
		}
	}
}
