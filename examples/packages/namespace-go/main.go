// The namespace package in Go, with its standard library: it reads `data.name` from its input and returns one file,
// `namespace.yaml`, which describes a Kubernetes namespace of that name. It shows a reactor with Go's runtime in it:
// the garbage collector, goroutines, and the WASI functions that these import. The host has to call `_initialize`
// first.
//
// Build it from this directory (Go 1.24 or newer):
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o namespace-go.wasm .
//
// or, from any directory of the project, with `cargo xtask packages --only namespace-go`. The module is too large to be
// committed.
package main

import (
	"fmt"
	"regexp"
	"strings"
	"structs"
	"unsafe"
)

const description = `apiVersion: mistletoe.dev/v1alpha1
kind: MistPackage
metadata:
  name: namespace-go
  labels:
    mistletoe.dev/group: examples
`

const answer = `apiVersion: mistletoe.dev/v1alpha1
kind: MistResult
data:
  result: Ok
  files:
    namespace.yaml: |
      apiVersion: v1
      kind: Namespace
      metadata:
        name: %s
`

const noName = `apiVersion: mistletoe.dev/v1alpha1
kind: MistResult
data:
  result: Err
  message: 'name the namespace in the input, on one line: "name: my-namespace" under "data:"'
`

// A name on one line, as it is written: in double quotes, in single quotes, or without quotes. Without quotes it cannot
// begin with a character that means something else there. A comment may follow.
var name = regexp.MustCompile(`^[ \t]*("(?:\\.|[^"\\])+"|'(?:''|[^'])+'|` +
	"[^-?:,[\\]{}#&*!|>@`%~\"' \t]" + `[^ \t]*(?:[ \t]+[^# \t][^ \t]*)*)[ \t]*(?:[ \t]#.*)?$`)

// Returns the result for an input, both YAML.
func generate(input string) string {
	if name := findName(input); name != "" {
		return fmt.Sprintf(answer, name)
	}
	return noName
}

// Returns `data.name`, or "" if there is none to use. This reads only the lines that matter here, not all of YAML.
func findName(input string) string {
	inData := false
	for _, line := range strings.FieldsFunc(input, func(c rune) bool { return c == '\n' || c == '\r' }) {
		// Exactly two spaces: names deeper in the document do not count.
		if value, ok := afterKey(line, "  name:"); ok && inData {
			if match := name.FindStringSubmatch(value); match != nil && match[1] != "null" {
				return match[1]
			}
			return ""
		}
		// A line without indentation, unless it is a comment, ends what came before it.
		if !strings.ContainsAny(line[:1], " \t#") {
			_, inData = afterKey(line, "data:")
		}
	}
	return ""
}

// Returns what follows the key on its line, if the line has that key.
func afterKey(line, key string) (string, bool) {
	rest, ok := strings.CutPrefix(line, key)
	return rest, ok && (rest == "" || strings.ContainsAny(rest[:1], " \t"))
}

// The rest is how the host reaches the package. Go's pointers have 64 bits in memory, the host's have 32.

// How a package returns a text: the host gets the address of this struct and reads both numbers.
type text struct {
	_       structs.HostLayout
	address uint32
	length  uint32
}

func textOf(bytes *byte, length int) text {
	return text{address: uint32(uintptr(unsafe.Pointer(bytes))), length: uint32(length)}
}

// The blocks that the host has and will hand back. The garbage collector frees what nothing here points to, so this map
// points to them. It moves no blocks.
var handedOut = map[*byte]bool{}

//go:wasmexport __mistletoe_alloc
func alloc(length uint32) *byte {
	// A slice of length 0 has no address of its own.
	block := unsafe.SliceData(make([]byte, max(length, 1)))
	handedOut[block] = true
	return block
}

//go:wasmexport __mistletoe_dealloc
func dealloc(block *byte, _ uint32) {
	delete(handedOut, block)
}

var infoText = textOf(unsafe.StringData(description), len(description))

//go:wasmexport __mistletoe_info
func info() *text {
	return &infoText
}

var answerText text

//go:wasmexport __mistletoe_generate
func answerInput(input *byte, length uint32) *text {
	answer := []byte(generate(unsafe.String(input, length)))
	handedOut[&answer[0]] = true
	answerText = textOf(&answer[0], len(answer))
	return &answerText
}

// A reactor has a `main` that is never called.
func main() {}
