// A plugin in Go, with the SDK in guest/go: the same as `httpwasm-direct-c`, with the same output.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/mistletoe-rs/mistletoe/guest/go/httpwasm"
)

func init() { httpwasm.Handle(greet) }

func greet(w io.Writer, body []byte) error {
	if len(body) == 0 {
		return errors.New("the body is empty")
	}
	_, err := fmt.Fprintf(w, "hello, %s\n", bytes.TrimSuffix(body, []byte("\n")))
	return err
}

func main() {}
