package lockfile_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"hallmark/internal/lockfile"
)

// upTo repeats what f gives for 0, 1, 2 … as often as goes into n bytes.
func upTo(n int, f func(i int) string) string {
	var b strings.Builder
	for i := 0; ; i++ {
		s := f(i)
		if b.Len()+len(s) > n {
			return b.String()
		}
		b.WriteString(s)
	}
}

// TestHostileFilesAreCheap reads files within the limit of bytes that were made to
// cost: what one costs in time and memory is bounded by its size, and not by the
// product of two of its parts.
func TestHostileFilesAreCheap(t *testing.T) {
	if testing.Short() {
		t.Skip("reads some 70 MiB")
	}
	const most = lockfile.MaxBytes - 1<<10
	same := func(s string) func(int) string { return func(int) string { return s } }
	uvHead := "version = 1\nrequires-python = \">=3.11\"\n"
	root := "[[package]]\nname = \"root\"\nversion = \"1\"\nsource = { virtual = \".\" }\n"
	for _, c := range []struct {
		name, file string
		content    func() string
	}{
		{"lines that go on", "requirements.txt", func() string { return upTo(most, same("a\\\n")) }},
		{"addresses without end", "requirements.txt", func() string { return upTo(most, same("-e\n")) }},
		{"remarks without end", "requirements.txt", func() string { return upTo(most, same("a #\n")) }},
		{"blanks before a hash that is none", "requirements.txt", func() string { return "a" + strings.Repeat(" ", most) + "b" }},
		{"extras of one package on all lines", "requirements.txt", func() string {
			return upTo(most, func(i int) string {
				return "a[" + upTo(700, func(k int) string { return fmt.Sprintf("%x,", i*128+k) }) + "z]==1\n"
			})
		}},
		{"components of nothing", "bom.json", func() string {
			return `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[` + upTo(most, same("{},")) + "{}]}"
		}},
		{"components that are numbers", "bom.json", func() string {
			return `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[` + upTo(most, same("1,")) + "1]}"
		}},
		{"packages of nothing", "bom.spdx.json", func() string {
			return `{"spdxVersion":"SPDX-2.3","packages":[` + upTo(most, same("{},")) + "{}]}"
		}},
		{"files of nothing", "bom.spdx.json", func() string {
			return `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","files":[` + upTo(most, same("{},")) + "{}]}"
		}},
		{"sections of nothing", "Pipfile.lock", func() string {
			return `{"_meta":{},"default":{` + strings.TrimSuffix(upTo(most, func(i int) string { return fmt.Sprintf("\"%x\":{},", i) }), ",") + "}}"
		}},
		{"a group whose name is long, of many packages", "uv.lock", func() string {
			s := uvHead + root + "[package.dev-dependencies]\n" + strings.Repeat("g", 1<<20) + " = [" + upTo(300_000, func(i int) string { return fmt.Sprintf("{ name = \"p%d\" },", i) }) + "]\n"
			return s + upTo(1<<20, func(i int) string {
				return fmt.Sprintf("[[package]]\nname = \"p%d\"\nversion = \"1\"\nsource = { registry = \"x\" }\n", i)
			})
		}},
		{"packages of one name that all depend on it", "uv.lock", func() string {
			return uvHead + root + "dependencies = [{ name = \"p\" }]\n" + upTo(most/4, func(i int) string {
				return fmt.Sprintf("[[package]]\nname = \"p\"\nversion = \"%d\"\nsource = { registry = \"x\" }\ndependencies = [{name=\"p\"},{name=\"p\"},{name=\"p\"},{name=\"p\"},{name=\"p\"},{name=\"p\"}]\n", i)
			})
		}},
		{"groups that all lead to long markers", "uv.lock", func() string {
			marker := "python_version > '1' and " + upTo(7<<10, same("python_version > '1' and ")) + "python_version > '1'"
			return uvHead + root + "[package.dev-dependencies]\n" + upTo(600_000, func(i int) string { return fmt.Sprintf("g%d = [{ name = \"p\" }]\n", i) }) +
				"[[package]]\nname = \"p\"\nversion = \"1\"\nsource = { registry = \"x\" }\ndependencies = [" + upTo(1<<20, func(i int) string { return fmt.Sprintf("{ name = \"q\", marker = \"%s\" },", marker) }) + "]\n"
		}},
		{"groups that all lead to extras", "uv.lock", func() string {
			return uvHead + root + "[package.dev-dependencies]\n" + upTo(600_000, func(i int) string { return fmt.Sprintf("g%d = [{ name = \"p\" }]\n", i) }) +
				"[[package]]\nname = \"p\"\nversion = \"1\"\nsource = { registry = \"x\" }\ndependencies = [{ name = \"p\", extra = [" + upTo(1<<20, func(i int) string { return fmt.Sprintf("\"%x\",", i) }) + "] }]\n"
		}},
		{"groups that include others", "pyproject.toml", func() string {
			return "[dependency-groups]\n" + upTo(most, func(i int) string { return fmt.Sprintf("g%d = [{include-group = \"none\"}]\n", i) })
		}},
		{"default groups and markers that ask for them", "pylock.toml", func() string {
			return "lock-version = \"1.0\"\ndefault-groups = [" + upTo(most/2, func(i int) string { return fmt.Sprintf("\"%x\",", i) }) + "]\n" + upTo(most/2-1000, func(i int) string {
				return fmt.Sprintf("[[packages]]\nname = \"p%d\"\nversion = \"1\"\nmarker = \"%s'z' in dependency_groups\"\n", i, upTo(4000, same("'z' in dependency_groups or ")))
			})
		}},
		{"groups of one package in all its mentions", "pdm.lock", func() string {
			return "[metadata]\nlock_version = \"4\"\ncontent_hash = \"x\"\n" + upTo(most, func(i int) string {
				return "[[package]]\nname = \"p\"\nversion = \"1\"\ngroups = [" + upTo(720, func(k int) string { return fmt.Sprintf("\"%x\",", i*100+k) }) + "]\n"
			})
		}},
		{"tables of nothing", "poetry.lock", func() string {
			return "[metadata]\nlock-version = \"2.0\"\n" + upTo(most, same("[[package]]\n"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			environment, b := env(t), []byte(c.content())
			if len(b) > lockfile.MaxBytes {
				t.Fatalf("the file has %d bytes", len(b))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			type result struct {
				f   lockfile.File
				err error
			}
			done := make(chan result, 1)
			go func() {
				f, err := lockfile.Read(c.file, bytes.Clone(b), environment)
				done <- result{f, err}
			}()
			select {
			case r := <-done:
				took := time.Since(began)
				runtime.ReadMemStats(&after)
				n := (after.TotalAlloc - before.TotalAlloc) >> 20
				t.Logf("%s, %d MiB: %.150v", took.Round(time.Millisecond), n, r.err)
				if n > 1000 {
					t.Errorf("it took %d MiB of memory", n)
				}
			case <-time.After(5 * time.Minute):
				t.Fatal("it is read for more than five minutes")
			}
		})
	}
}
