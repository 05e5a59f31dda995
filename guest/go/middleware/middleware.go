// Package middleware makes http-wasm middleware of functions.
//
//	func init() {
//		middleware.Handle(func(config []byte) (middleware.Handler, error) {
//			return middleware.Handler{Request: request}, nil
//		})
//	}
//
//	func request(req *middleware.Request, resp *middleware.Response) (next bool, context uint32) {
//		if req.Header.Get("X-Api-Key") != "" {
//			return true, 0
//		}
//		resp.SetStatus(401)
//		io.WriteString(resp.Body, "a key is required\n")
//		return false, 0
//	}
//
//	func main() {}
//
// Built as a reactor, that is a whole module:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o middleware.wasm .
//
// A host has to call the module's `_initialize` first.
//
// A call that the interface does not allow, such as a header's value with a line break, ends the request and the
// instance. So does a panic.
//
// On other platforms than wasip1, such as in tests, there is no host: every text, list and body is empty, and changes
// are dropped.
package middleware

import (
	"io"
	"strings"
	"unsafe"

	"github.com/mistletoe-rs/mistletoe/guest/go/internal/memory"
)

// Handler sees each HTTP request before the next handler of a server, and the response after it.
//
// An instance of the module handles one request at a time, and can handle more than one.
type Handler struct {
	// Request handles a request. It returns whether the request goes on to the next handler, with a context for Response,
	// any number; otherwise the response that it made is sent.
	Request func(req *Request, resp *Response) (next bool, context uint32)
	// Response handles the response of the next handler. failed tells that the next handler failed. The request can only
	// be read. The response can be changed only with the feature [BufferResponse]. Optional.
	Response func(context uint32, req *Request, resp *Response, failed bool)
}

// Feature is what a host does only if it is asked to.
type Feature uint32

const (
	// BufferRequest lets the next handler read all of the request's body, also what the middleware has read of it.
	BufferRequest Feature = 1
	// BufferResponse holds the response back until the middleware has handled it, which can change it.
	BufferResponse Feature = 2
	// Trailers can be read and changed.
	Trailers Feature = 4
)

// Level is how important a message of the log is.
type Level int32

const (
	Debug Level = -1
	Info  Level = 0
	Warn  Level = 1
	Error Level = 2
)

// Log writes a message to the host's log, if the host logs this level.
func Log(level Level, message string) {
	if hostLogEnabled(level) != 0 {
		hostLog(level, message)
	}
}

var handler Handler

// Handle makes the handler that start returns the program's middleware. Call it once, in an init function: a host does
// not call main.
//
// start gets the configuration, bytes in a form that the middleware defines. The features are enabled for every
// request. If start returns an error, or the host lacks a feature, the error goes to the host's log, and the module
// ends.
//
// On other platforms than wasip1, Handle does nothing.
func Handle(start func(config []byte) (Handler, error), features ...Feature) {
	if !hasHost {
		return
	}
	for _, feature := range features {
		if !enable(feature) {
			fail("the host lacks a feature that the middleware needs")
		}
	}
	var err error
	if handler, err = start(memory.Fill(hostGetConfig)); err != nil {
		fail(err.Error())
	}
}

func enable(feature Feature) bool { return hostEnableFeatures(feature)&feature != 0 }

// Request is a request on its way to the next handler. After the next handler, it can only be read.
type Request struct {
	// Header has the headers, Host among them.
	Header Header
	// Trailer has the trailers. It is empty without the feature [Trailers].
	Trailer Header
	// Body is the body. What is read of it is gone for the next handler, without the feature [BufferRequest]. What is
	// written replaces it.
	Body io.ReadWriter
}

var request = &Request{Header: Header{0}, Trailer: Header{2}, Body: body(0)}

// Method returns the method, such as GET.
func (*Request) Method() string { return string(memory.Fill(hostGetMethod)) }

// SetMethod replaces the method.
func (*Request) SetMethod(method string) { hostSetMethod(method) }

// URI returns path and query, encoded as on the wire, such as /a%20b?c=d.
func (*Request) URI() string { return string(memory.Fill(hostGetURI)) }

// SetURI replaces path and query. Without a question mark, the request has no query any more.
func (*Request) SetURI(uri string) { hostSetURI(uri) }

// ProtocolVersion returns the version of HTTP, such as HTTP/1.1.
func (*Request) ProtocolVersion() string { return string(memory.Fill(hostGetProtocolVersion)) }

// SourceAddr returns the client's address and port, such as 192.0.2.1:1234 or [2001:db8::1]:1234.
func (*Request) SourceAddr() string { return string(memory.Fill(hostGetSourceAddr)) }

// Enable enables a feature for this request, before it goes on. It returns whether the host supports it.
func (*Request) Enable(feature Feature) bool { return enable(feature) }

// Response is the response to a request: the middleware's own, or that of the next handler.
type Response struct {
	// Header has the headers.
	Header Header
	// Trailer has the trailers. It is empty without the feature [Trailers].
	Trailer Header
	// Body is the body. Reading that of the next handler requires the feature [BufferResponse]. What is written replaces
	// it.
	Body io.ReadWriter
}

var response = &Response{Header: Header{1}, Trailer: Header{3}, Body: body(1)}

// Status returns the status, 200 by default.
func (*Response) Status() int { return int(hostGetStatusCode()) }

// SetStatus replaces the status: 200 or above.
func (*Response) SetStatus(status int) { hostSetStatusCode(uint32(status)) }

// Header has the headers or trailers of a request or response. Names match in any case.
type Header struct{ kind uint32 }

// Names returns all names, in lower case, each once.
func (h Header) Names() []string {
	return list(func(buffer *byte, limit uint32) uint64 { return hostGetHeaderNames(h.kind, buffer, limit) })
}

// Get returns the first value of a name, or nothing. Where a second value would matter, look at [Header.Values].
func (h Header) Get(name string) string {
	for _, value := range h.Values(name) {
		return value
	}
	return ""
}

// Values returns all values of a name, in their order.
func (h Header) Values(name string) []string {
	return list(func(buffer *byte, limit uint32) uint64 { return hostGetHeaderValues(h.kind, name, buffer, limit) })
}

// Set replaces all values of a name by one.
func (h Header) Set(name, value string) { hostSetHeaderValue(h.kind, name, value) }

// Add adds a value after those that a name has.
func (h Header) Add(name, value string) { hostAddHeaderValue(h.kind, name, value) }

// Del removes all values of a name, if there are any.
func (h Header) Del(name string) { hostRemoveHeader(h.kind, name) }

// A body by its kind.
type body uint32

func (b body) Read(buffer []byte) (int, error) {
	if len(buffer) == 0 {
		return 0, nil
	}
	result := hostReadBody(uint32(b), &buffer[0], uint32(len(buffer)))
	length := int(uint32(result))
	if result>>32 != 0 || length == 0 {
		return length, io.EOF
	}
	return length, nil
}

func (b body) Write(bytes []byte) (int, error) {
	return b.WriteString(unsafe.String(unsafe.SliceData(bytes), len(bytes)))
}

func (b body) WriteString(text string) (int, error) {
	hostWriteBody(uint32(b), text)
	return len(text), nil
}

// Returns the entries of a list: their number is in the upper half of the result, their length in the lower. A zero
// byte ends each of them.
func list(get func(buffer *byte, limit uint32) uint64) []string {
	count := 0
	text := string(memory.Fill(func(buffer *byte, limit uint32) uint32 {
		result := get(buffer, limit)
		count = int(result >> 32)
		return uint32(result)
	}))
	if count == 0 {
		return nil
	}
	return strings.SplitN(strings.TrimSuffix(text, "\x00"), "\x00", count)
}
