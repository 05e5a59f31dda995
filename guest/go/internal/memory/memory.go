// Package memory keeps the blocks that a host has.
//
// The garbage collector frees what nothing in the module points to, and knows nothing of the host. It moves no block.
package memory

import "unsafe"

var held = map[*byte]struct{}{}

// Alloc returns a block that stays until it is freed.
func Alloc(length uint32) *byte {
	// A slice of length 0 has no address of its own.
	return Hold(make([]byte, max(length, 1)))
}

// Hold keeps a block of at least one byte until it is freed.
func Hold(block []byte) *byte {
	address := unsafe.SliceData(block)
	held[address] = struct{}{}
	return address
}

// Free lets go of a block. It ignores other addresses.
func Free(block *byte) { delete(held, block) }

// Len returns the number of blocks.
func Len() int { return len(held) }
