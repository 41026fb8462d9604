// Package archtest holds the repository to its own rules: which room may use
// which, that no registry's address and no machine's path is written down, that
// what is exported is explained, and that the binary is the same wherever it is
// built. It is tests alone; nothing may import it.
package archtest
