// Package bench measures Hallmark against the tools that people would use in its
// place, each as a ratio within one run. Its programs are tests behind the build
// tag bench, so that an ordinary test run neither compiles nor times anything;
// make bench runs them and writes docs/performance.md.
//
// It refuses to fail on a slow machine: a figure that misses its bound is shown
// as missed. It fails if something could not be measured although all that it
// needs is there.
package bench
