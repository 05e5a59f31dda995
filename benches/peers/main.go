// Servers in Go on wazero, which the load benchmark compares with others.
//
//	peers httpwasm fresh|reused MODULE
//	peers http-wasm MODULE CONFIGURATION RESPONSE
//
// The first puts an httpwasm plugin behind net/http, the second a middleware of http-wasm in front of a handler that
// responds with a fixed text. Both listen on a free port of the loopback address, and print it to standard error.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	handler, err := newHandler(context.Background(), args)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on http://%s\n", listener.Addr())
	return http.Serve(listener, handler)
}

func newHandler(ctx context.Context, args []string) (http.Handler, error) {
	switch {
	case len(args) == 3 && args[0] == "httpwasm":
		return newPlugin(ctx, args[1], args[2])
	case len(args) == 4 && args[0] == "http-wasm":
		return newMiddleware(ctx, args[1], args[2], args[3])
	}
	return nil, fmt.Errorf("expected httpwasm fresh|reused MODULE, or http-wasm MODULE CONFIGURATION RESPONSE")
}
