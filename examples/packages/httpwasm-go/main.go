// A plugin in Go: the same as `httpwasm-c`, with the same output. It shows a module that the host calls while the
// module waits for the host: `igets` calls `malloc`. The host has to call `_initialize` first.
//
// Build it from this directory (Go 1.24 or newer):
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o httpwasm-go.wasm .
//
// or, from any directory of the project, with `cargo xtask packages --only httpwasm-go`. The module is too large to be
// committed.
package main

import (
	"strings"
	"unsafe"
)

// A string is passed as its address and its length.

//go:wasmimport httpwasm oputs
func oputs(text string)

//go:wasmimport httpwasm eputs
func eputs(text string)

// The address is in the upper half, the length in the lower.
//
//go:wasmimport httpwasm igets
func igets() uint64

// The blocks that the host has not freed yet, by their addresses. The garbage collector keeps them while they are in
// here.
var blocks = map[uint32][]byte{}

//go:wasmexport malloc
func malloc(length uint32) uint32 {
	// A slice of length 0 has no address of its own.
	block := make([]byte, max(length, 1))
	address := uint32(uintptr(unsafe.Pointer(&block[0])))
	blocks[address] = block
	return address
}

//go:wasmexport free
func free(address uint32) {
	delete(blocks, address)
}

//go:wasmexport live
func live() int32 {
	return int32(len(blocks))
}

//go:wasmexport run
func run() {
	for {
		answer := igets()
		address, length := uint32(answer>>32), uint32(answer)
		if length == 0 {
			return
		}
		greet(string(blocks[address][:length]))
	}
}

func greet(record string) {
	if strings.HasSuffix(record, "\n") || strings.HasSuffix(record, "\x00") {
		record = record[:len(record)-1]
	}
	if record == "" {
		eputs("empty record\n")
	} else {
		oputs("hello, " + record + "\n")
	}
}

// A reactor has a `main` that is never called.
func main() {}
