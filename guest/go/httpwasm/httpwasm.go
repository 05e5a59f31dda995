// Package httpwasm makes an httpwasm plugin of a function.
//
//	func init() {
//		httpwasm.Handle(func(w io.Writer, body []byte) error {
//			_, err := fmt.Fprintf(w, "%d bytes\n", len(body))
//			return err
//		})
//	}
//
//	func main() {}
//
// Built as a reactor, that is a whole plugin:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o plugin.wasm .
//
// A request's environment is in [os.Getenv], if the host has set one: each request of an instance has its own.
package httpwasm

import "io"

// Handler responds to a request with this body by writing to w, and returns an error if it cannot.
//
// What it writes reaches the host at once. The body is the handler's, and may be kept and changed.
type Handler func(w io.Writer, body []byte) error

var handler Handler = func(io.Writer, []byte) error {
	panic("no plugin: call httpwasm.Handle in an init function")
}

// Handle makes the function the program's plugin. Call it once, in an init function: a host does not call main.
//
// An error that it returns goes to the standard error of the request, as a line. A panic is a failure of the instance.
func Handle(h Handler) { handler = h }
