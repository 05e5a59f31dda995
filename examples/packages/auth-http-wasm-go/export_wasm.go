package main

import (
	_ "unsafe" // for go:linkname

	"github.com/http-wasm/http-wasm-guest-tinygo/handler"
	"github.com/http-wasm/http-wasm-guest-tinygo/handler/api"
)

func init() {
	handle, err := start(string(handler.Host.GetConfig()))
	if err != nil {
		handler.Host.Log(api.LogLevelError, err.Error())
		panic(err)
	}
	handler.HandleRequestFn = handle
}

// The library is for TinyGo. With TinyGo's tag, its imports work in Go, too. Its exports need Go's own directive.

//go:wasmexport handle_request
func exportRequest() uint64 { return handleRequest() }

//go:wasmexport handle_response
func exportResponse(context, isError uint32) { handleResponse(context, isError) }

//go:linkname handleRequest github.com/http-wasm/http-wasm-guest-tinygo/handler.handleRequest
func handleRequest() uint64

//go:linkname handleResponse github.com/http-wasm/http-wasm-guest-tinygo/handler.handleResponse
func handleResponse(context, isError uint32)
