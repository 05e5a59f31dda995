package mistletoe

import (
	"structs"
	"unsafe"

	"github.com/mistletoe-rs/mistletoe/guest/go/internal/memory"
)

// How a package returns a text: the host reads both numbers. Go's pointers have 64 bits in memory, the host's 32.
type fatPointer struct {
	_       structs.HostLayout
	address uint32
	length  uint32
}

var (
	info   fatPointer
	output fatPointer
)

// Returns a block with the text, which the host may free. An empty text has an address, too.
func (p *fatPointer) set(text string) *fatPointer {
	block := append(make([]byte, 0, max(len(text), 1)), text...)
	address := memory.Hold(block[:cap(block)])
	p.address, p.length = uint32(uintptr(unsafe.Pointer(address))), uint32(len(text))
	return p
}

//go:wasmexport __mistletoe_info
func exportInfo() *fatPointer {
	if info.address == 0 {
		info.set(describe())
	}
	return &info
}

//go:wasmexport __mistletoe_alloc
func exportAlloc(length uint32) *byte { return memory.Alloc(length) }

//go:wasmexport __mistletoe_dealloc
func exportDealloc(block *byte, _ uint32) { memory.Free(block) }

//go:wasmexport __mistletoe_generate
func exportGenerate(input *byte, length uint32) *fatPointer {
	// The host frees the input after this call, and a package may keep parts of it.
	text := string(unsafe.Slice(input, length))
	return output.set(respond(text))
}
