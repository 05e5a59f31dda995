// Generates the table of messages, and the objects that the encoder is tested with.
//
//	go run . table | rustfmt --edition 2024 > ../src/protobuf/table.rs
//	go run . objects ../tests/data/protobuf
package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"

	corev1 "k8s.io/api/core/v1"
)

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "table":
		t := table{names: map[string]reflect.Type{}}
		t.write(os.Stdout, version("k8s.io/api"), reflect.TypeFor[corev1.Pod](), reflect.TypeFor[corev1.Node]())
	case len(os.Args) == 3 && os.Args[1] == "objects":
		if err := objects(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: generate table | objects DIRECTORY")
		os.Exit(2)
	}
}

// version returns the version of a module that this program is built with.
func version(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == path {
			return module.Version
		}
	}
	panic("the version of " + path + " is unknown")
}
