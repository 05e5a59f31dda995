package httpwasm

import (
	"os"
	"strings"
	"unsafe"

	"github.com/mistletoe-rs/mistletoe/guest/go/internal/memory"
)

//go:wasmimport httpwasm oputs
func oputs(text string)

//go:wasmimport httpwasm eputs
func eputs(text string)

//go:wasmimport wasi_snapshot_preview1 environ_sizes_get
func environSizesGet(count, size *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 environ_get
func environGet(addresses *uint32, text *byte) uint32

//go:wasmexport malloc
func exportMalloc(length uint32) *byte { return memory.Alloc(length) }

//go:wasmexport free
func exportFree(block *byte) { memory.Free(block) }

//go:wasmexport run
func exportRun(body *byte, length uint32) {
	// The host frees the body after this call.
	own := append([]byte(nil), unsafe.Slice(body, length)...)
	readEnvironment()
	if err := handler(response{}, own); err != nil {
		eputs(err.Error() + "\n")
	}
}

// Makes the variables of this request those of [os.Getenv], which keeps the ones of the instance's start.
func readEnvironment() {
	var count, size uint32
	if environSizesGet(&count, &size) != 0 {
		return
	}
	// Blocks of length 0 have no address.
	addresses, text := make([]uint32, count+1), make([]byte, size+1)
	if environGet(&addresses[0], &text[0]) != 0 {
		return
	}
	os.Clearenv()
	for entry := range strings.SplitSeq(string(text[:size]), "\x00") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			os.Setenv(name, value)
		}
	}
}

type response struct{}

func (response) Write(text []byte) (int, error) {
	oputs(unsafe.String(unsafe.SliceData(text), len(text)))
	return len(text), nil
}
