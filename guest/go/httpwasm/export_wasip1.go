package httpwasm

import (
	"unsafe"

	"github.com/mistletoe-rs/mistletoe/guest/go/internal/memory"
)

//go:wasmimport httpwasm oputs
func oputs(text string)

//go:wasmimport httpwasm eputs
func eputs(text string)

//go:wasmexport malloc
func exportMalloc(length uint32) *byte { return memory.Alloc(length) }

//go:wasmexport free
func exportFree(block *byte) { memory.Free(block) }

//go:wasmexport run
func exportRun(body *byte, length uint32) {
	// The host frees the body after this call.
	own := append([]byte(nil), unsafe.Slice(body, length)...)
	if err := handler(response{}, own); err != nil {
		eputs(err.Error() + "\n")
	}
}

type response struct{}

func (response) Write(text []byte) (int, error) {
	oputs(unsafe.String(unsafe.SliceData(text), len(text)))
	return len(text), nil
}
