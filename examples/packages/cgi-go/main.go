// A CGI program in Go: a handler of net/http that the standard library's net/http/cgi serves. The same as `cgi-c`, with
// the same responses.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
)

func main() {
	if err := cgi.Serve(http.HandlerFunc(respond)); err != nil {
		log.Fatal(err)
	}
}

func respond(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	if r.URL.Path == "/cgi/missing" {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintln(w, "There is nothing here.")
		return
	}
	length, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintf(w, "%s %s\n%d bytes of body\n", r.Method, r.URL.RequestURI(), length)
}
