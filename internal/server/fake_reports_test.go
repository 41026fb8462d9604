package server

import (
	"context"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/runtime"
	"hallmark/internal/status"
)

// find gives the project whose newest commit it is.
func (f *fake) find(commit digest.Digest) (*Project, error) {
	for _, get := range f.projects {
		if p, err := get(); err == nil && p.Document.Commit == "commit:"+commit.String() {
			return p, nil
		}
	}
	return nil, fault.New(fault.NotFound, "commit %s is not stored", commit)
}

func (f *fake) Status(_ context.Context, commit digest.Digest) (status.Document, error) {
	p, err := f.find(commit)
	if err != nil {
		return status.Document{}, err
	}
	return p.Document, nil
}

func (f *fake) Frontier(_ context.Context, commit digest.Digest) (status.Frontier, error) {
	p, err := f.find(commit)
	if err != nil {
		return status.Frontier{}, err
	}
	return status.Frontier{Runtime: status.Side{Bytes: p.Document.Summary.FrontierBytes, Parts: []status.Part{}, Beneath: []string{}},
		Build: status.Side{Bytes: &p.Document.Summary.SeedBytesBuild, Parts: []status.Part{}, Beneath: []string{}}}, nil
}

func (f *fake) Why(_ context.Context, commit digest.Digest, artifact string) ([]status.Hop, error) {
	p, err := f.find(commit)
	if err != nil {
		return nil, err
	}
	for _, r := range p.Document.Artifacts {
		if r.PURL.Name() == artifact {
			return []status.Hop{{Artifact: r.PURL, Class: r.Class, Reasons: r.Reasons}}, nil
		}
	}
	return nil, fault.New(fault.NotFound, "no artifact %.100q", artifact)
}

func (f *fake) Plan(context.Context, digest.Digest) ([]byte, error) { return []byte(`{}`), nil }
func (f *fake) Lock(context.Context, digest.Digest) ([]byte, error) { return []byte("{}\n"), nil }

func (f *fake) NewUnknown(_ context.Context, commit digest.Digest) ([]string, error) {
	p, err := f.find(commit)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range p.Document.Artifacts {
		if r.Grade != nil && *r.Grade == policy.Unknown {
			out = append(out, string(r.PURL))
		}
	}
	return out, nil
}

func (f *fake) Export(context.Context, digest.Digest, string) (api.Export, error) {
	return api.Export{}, fault.New(fault.NotFound, "nothing is exported")
}

func (f *fake) BuildLog(context.Context, digest.Digest, string) (api.Log, []byte, error) {
	return api.Log{}, nil, fault.New(fault.NotFound, "there is no log")
}

func (f *fake) Runtime(_ context.Context, commit digest.Digest) (runtime.Spec, func() error, error) {
	if f.runtime == nil {
		return runtime.Spec{}, nil, fault.Advise(fault.Conflict, "Add a root.", "nothing of it brings a root")
	}
	return *f.runtime, func() error { return nil }, nil
}
