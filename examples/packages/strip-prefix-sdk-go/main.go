// Middleware in Go, with the SDK in guest/go: it removes a prefix from the path of requests, so that the next handler
// need not know where it is mounted.
//
// Its configuration is JSON, such as {"prefixes": ["/api", "/v1"]}. The first prefix that is the start of the path, up
// to a slash or the end, is removed, and the next handler gets it as X-Forwarded-Prefix. Requests without a prefix get
// status 404, as do those with two slashes after it: what remains would begin like the name of a host, which redirects
// of the next handler could lead to. A Location in the response that begins with a slash gets the prefix back.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mistletoe-rs/mistletoe/guest/go/middleware"
)

func init() { middleware.Handle(start, middleware.BufferResponse) }

type stripper struct {
	Prefixes []string `json:"prefixes"`
}

func start(config []byte) (middleware.Handler, error) {
	s := &stripper{}
	if err := json.Unmarshal(config, s); err != nil {
		return middleware.Handler{}, fmt.Errorf("the configuration is not JSON: %w", err)
	}
	if len(s.Prefixes) == 0 {
		return middleware.Handler{}, errors.New("the configuration has no prefixes")
	}
	for _, prefix := range s.Prefixes {
		if !strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") {
			return middleware.Handler{}, fmt.Errorf("the prefix %q does not begin with a slash, or ends with one", prefix)
		}
	}
	return middleware.Handler{Request: s.request, Response: s.response}, nil
}

func (s *stripper) request(req *middleware.Request, resp *middleware.Response) (next bool, context uint32) {
	for i, prefix := range s.Prefixes {
		if rest, ok := strip(req.URI(), prefix); ok {
			req.SetURI(rest)
			req.Header.Set("X-Forwarded-Prefix", prefix)
			return true, uint32(i)
		}
	}
	resp.SetStatus(404)
	resp.Header.Set("Content-Type", "text/plain")
	io.WriteString(resp.Body, "no prefix matches\n")
	return false, 0
}

// Returns what follows a prefix in a path with a query.
func strip(uri, prefix string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(uri, prefix)
	switch {
	case !ok:
		return "", false
	case rest == "" || rest[0] == '?':
		return "/" + rest, true
	default:
		return rest, rest[0] == '/' && !strings.HasPrefix(rest, "//")
	}
}

func (s *stripper) response(context uint32, _ *middleware.Request, resp *middleware.Response, _ bool) {
	location := resp.Header.Get("Location")
	// Two slashes are the start of a host.
	if strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") {
		resp.Header.Set("Location", s.Prefixes[context]+location)
	}
}

func main() {}
