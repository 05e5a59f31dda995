package middleware

import "os"

const hasHost = true

// The functions of the interface. A string is passed as its address and its length.

//go:wasmimport http_handler enable_features
func hostEnableFeatures(features Feature) Feature

//go:wasmimport http_handler get_config
func hostGetConfig(buffer *byte, limit uint32) uint32

//go:wasmimport http_handler log_enabled
func hostLogEnabled(level Level) uint32

//go:wasmimport http_handler log
func hostLog(level Level, message string)

//go:wasmimport http_handler get_method
func hostGetMethod(buffer *byte, limit uint32) uint32

//go:wasmimport http_handler set_method
func hostSetMethod(method string)

//go:wasmimport http_handler get_uri
func hostGetURI(buffer *byte, limit uint32) uint32

//go:wasmimport http_handler set_uri
func hostSetURI(uri string)

//go:wasmimport http_handler get_protocol_version
func hostGetProtocolVersion(buffer *byte, limit uint32) uint32

//go:wasmimport http_handler get_source_addr
func hostGetSourceAddr(buffer *byte, limit uint32) uint32

//go:wasmimport http_handler get_header_names
func hostGetHeaderNames(kind uint32, buffer *byte, limit uint32) uint64

//go:wasmimport http_handler get_header_values
func hostGetHeaderValues(kind uint32, name string, buffer *byte, limit uint32) uint64

//go:wasmimport http_handler set_header_value
func hostSetHeaderValue(kind uint32, name, value string)

//go:wasmimport http_handler add_header_value
func hostAddHeaderValue(kind uint32, name, value string)

//go:wasmimport http_handler remove_header
func hostRemoveHeader(kind uint32, name string)

//go:wasmimport http_handler read_body
func hostReadBody(kind uint32, buffer *byte, limit uint32) uint64

//go:wasmimport http_handler write_body
func hostWriteBody(kind uint32, bytes string)

//go:wasmimport http_handler get_status_code
func hostGetStatusCode() uint32

//go:wasmimport http_handler set_status_code
func hostSetStatusCode(status uint32)

//go:wasmexport handle_request
func exportRequest() uint64 {
	if handler.Request == nil {
		fail("no middleware: call middleware.Handle in an init function")
	}
	next, context := handler.Request(request, response)
	if !next {
		return 0
	}
	return uint64(context)<<32 | 1
}

//go:wasmexport handle_response
func exportResponse(context, failed uint32) {
	if handler.Response != nil {
		handler.Response(context, request, response, failed != 0)
	}
}

// Ends the module.
func fail(message string) {
	Log(Error, message)
	os.Exit(1)
}
