// Package memory keeps the blocks that a host has, and gets those that a host fills.
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

// Fill returns the bytes that a function of the host writes if they fit. It returns their length.
func Fill(get func(buffer *byte, limit uint32) uint32) []byte {
	buffer := make([]byte, 128)
	for {
		length := get(&buffer[0], uint32(len(buffer)))
		if int(length) <= len(buffer) {
			return buffer[:length]
		}
		buffer = make([]byte, length)
	}
}
