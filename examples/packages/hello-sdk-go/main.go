// A plugin in Go for a web server, with the SDK in guest/go: the same as `hello-c`, with the same output, as long as
// the query is well formed.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/mistletoe-rs/mistletoe/guest/go/httpwasm"
)

func init() { httpwasm.Handle(hello) }

func hello(w io.Writer, body []byte) error {
	for line := range bytes.Lines(body) {
		fmt.Fprintf(w, "hello, %s\n", bytes.TrimSuffix(line, []byte("\n")))
	}
	if len(body) > 0 {
		return nil
	}
	name := "world"
	// What cannot be parsed of a query is left out.
	if query, _ := url.ParseQuery(os.Getenv("HTTP_QUERY")); query.Has("name") {
		name = query.Get("name")
	}
	_, err := fmt.Fprintf(w, "hello, %s\n", name)
	return err
}

func main() {}
