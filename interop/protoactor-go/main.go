// A protoactor-go node that a test drives, one JSON object a line.
//
//	go-node node [flags]    reads commands on stdin, prints events on stdout, ends when stdin does
//	go-node bench [flags]   measures this node against another of its kind, prints one JSON object
//
// README.md lists the commands and the events.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	switch os.Args[1] {
	case "node":
		runNode(os.Args[2:])
	case "bench":
		runBench(os.Args[2:])
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: go-node node|bench [flags]")
	os.Exit(2)
}
