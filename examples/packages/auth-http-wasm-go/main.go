// Middleware in Go, with http-wasm's own guest library: it lets only requests with the right credentials go on, as the
// middleware in ../auth-sdk does. The configuration is the same:
//
//	realm NAME
//	bearer TOKEN
//	basic USER:PASSWORD
package main

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/http-wasm/http-wasm-guest-tinygo/handler"
	"github.com/http-wasm/http-wasm-guest-tinygo/handler/api"
)

// A reactor's main is not called.
func main() {}

func start(config string) (api.HandleRequest, error) {
	auth, err := parse(config)
	if err != nil {
		return nil, err
	}
	return auth.request, nil
}

type auth struct {
	realm string
	// As clients send them: the basic ones in base64.
	bearer, basic []string
}

func parse(config string) (*auth, error) {
	if !utf8.ValidString(config) {
		return nil, errors.New("the configuration is not UTF-8")
	}
	a := &auth{realm: "restricted"}
	for number, line := range strings.Split(config, "\n") {
		if err := a.line(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d of the configuration: %w", number+1, err)
		}
	}
	if len(a.bearer)+len(a.basic) == 0 {
		return nil, errors.New("the configuration has no credentials")
	}
	return a, nil
}

func (a *auth) line(line string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	key, value, _ := strings.Cut(line, " ")
	switch {
	case value == "":
	case key == "realm":
		if strings.ContainsFunc(value, func(c rune) bool { return unicode.IsControl(c) || c == '"' || c == '\\' }) {
			return errors.New("a realm has no quotes, backslashes and control characters")
		}
		a.realm = value
		return nil
	case key == "bearer":
		a.bearer = append(a.bearer, value)
		return nil
	case key == "basic":
		if !strings.Contains(value, ":") {
			return errors.New("expected USER:PASSWORD")
		}
		a.basic = append(a.basic, base64.StdEncoding.EncodeToString([]byte(value)))
		return nil
	}
	return errors.New("expected `realm NAME`, `bearer TOKEN` or `basic USER:PASSWORD`")
}

func (a *auth) request(req api.Request, resp api.Response) (next bool, context uint32) {
	if values := req.Headers().GetAll("authorization"); len(values) == 1 && a.admits(values[0]) {
		// The next handler does not see it.
		req.Headers().Remove("authorization")
		return true, 0
	}
	handler.Host.Log(api.LogLevelInfo, "refused a request from "+req.GetSourceAddr())
	resp.SetStatusCode(401)
	headers := resp.Headers()
	if len(a.bearer) > 0 {
		headers.Add("www-authenticate", fmt.Sprintf("Bearer realm=\"%s\"", a.realm))
	}
	if len(a.basic) > 0 {
		headers.Add("www-authenticate", fmt.Sprintf("Basic realm=\"%s\", charset=\"UTF-8\"", a.realm))
	}
	headers.Set("content-type", "text/plain")
	resp.Body().WriteString("credentials are required\n")
	return false, 0
}

func (a *auth) admits(header string) bool {
	scheme, credentials, _ := strings.Cut(header, " ")
	var known []string
	switch strings.ToLower(scheme) {
	case "bearer":
		known = a.bearer
	case "basic":
		known = a.basic
	}
	// All are compared, so that the time does not tell which of them it was.
	found := 0
	for _, one := range known {
		found |= subtle.ConstantTimeCompare([]byte(one), []byte(strings.Trim(credentials, " \t")))
	}
	return found == 1
}
