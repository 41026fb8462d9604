// Command probe is what runs in the runtimes of tests.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	args := append(os.Args[1:], "", "")
	switch args[0] {
	case "exit":
		n, _ := strconv.Atoi(args[1])
		os.Exit(n)
	case "write":
		if err := os.WriteFile(args[1], []byte("written\n"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		wd, _ := os.Getwd()
		fmt.Println("here", wd, "home", os.Getenv("HOME"), "asked", os.Getenv("ASKED"))
		for _, a := range os.Args[1:] {
			fmt.Println("arg", a)
		}
	}
}
