// Package e2e holds the tests of the whole: the real program, driven as a user
// drives it, on real packages of the machine's own index and on hostile ones
// that the tests write themselves. docs/design/e2e.md says how it is laid out.
//
// It has no code of its own and fakes nothing: what cannot be had (a sandbox, a
// network, a tool) fails a test and never skips it, but under -short all of it
// is left out.
package e2e
