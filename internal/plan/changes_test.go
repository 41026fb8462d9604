package plan

import (
	"slices"
	"testing"
)

func TestChanges(t *testing.T) {
	old := Step{Inputs: []Input{
		{Tag: TagSource, PURL: "pkg:pypi/a@1", File: "a-1.tar.gz", Digest: "sha256:1"},
		{Tag: TagDeps, PURL: "pkg:pypi/setuptools@68", Step: "sha256:s68"},
		{Tag: TagDeps, PURL: "pkg:pypi/wheel@1", Step: "sha256:w"},
		{Tag: TagDeps, PURL: "pkg:pypi/gone@1", Step: "sha256:g"}}, Env: Environment{Builder: "hallmark-builder/1", Profile: "p"}}
	if got := Changes(old, old); len(got) != 0 {
		t.Errorf("nothing changed: %q", got)
	}
	s := Step{Inputs: []Input{
		{Tag: TagSource, PURL: "pkg:pypi/a@1", File: "a-1.zip", Digest: "sha256:2"},
		{Tag: TagDeps, PURL: "pkg:pypi/setuptools@69", Step: "sha256:s69"},
		{Tag: TagDeps, PURL: "pkg:pypi/wheel@1", Step: "sha256:w2"},
		{Tag: TagDeps, PURL: "pkg:pypi/fresh@1", Step: "sha256:f"}},
		Recipe: Recipe{Backend: "b"}, Env: Environment{Builder: "hallmark-builder/2", Profile: "q", SourceDateEpoch: 1}}
	want := []string{"input pkg:pypi/a@1 has other bytes", "input pkg:pypi/setuptools@69 instead of pkg:pypi/setuptools@68",
		"input pkg:pypi/wheel@1 is built by another step", "new input pkg:pypi/fresh@1", "input pkg:pypi/gone@1 is gone",
		"the recipe changed", "the sandbox profile changed", "the builder changed from hallmark-builder/1 to hallmark-builder/2", "the declared environment changed"}
	if got := Changes(old, s); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
