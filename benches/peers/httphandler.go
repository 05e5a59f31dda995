package main

import (
	"context"
	"io"
	"net/http"
	"os"

	"github.com/http-wasm/http-wasm-host-go/handler"
	wasm "github.com/http-wasm/http-wasm-host-go/handler/nethttp"
	"github.com/tetratelabs/wazero"
)

// newMiddleware puts a guest on http-wasm's own host in front of a handler that responds with a fixed text.
func newMiddleware(ctx context.Context, path, configuration, response string) (http.Handler, error) {
	guest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// The start functions that Traefik calls.
	config := wazero.NewModuleConfig().WithStartFunctions("_start", "_initialize")
	middleware, err := wasm.NewMiddleware(ctx, guest, handler.GuestConfig([]byte(configuration)), handler.ModuleConfig(config))
	if err != nil {
		return nil, err
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, response) // fails if the client has left
	})
	return middleware.NewHandler(ctx, next), nil
}
