// Package packaging is what a host needs to run hallmark as a service. It has no
// code, only tests of the files beside it.
package packaging
