//go:build !wasip1

package middleware

const hasHost = false

func hostEnableFeatures(Feature) Feature                       { return 0 }
func hostGetConfig(*byte, uint32) uint32                       { return 0 }
func hostLogEnabled(Level) uint32                              { return 0 }
func hostLog(Level, string)                                    {}
func hostGetMethod(*byte, uint32) uint32                       { return 0 }
func hostSetMethod(string)                                     {}
func hostGetURI(*byte, uint32) uint32                          { return 0 }
func hostSetURI(string)                                        {}
func hostGetProtocolVersion(*byte, uint32) uint32              { return 0 }
func hostGetSourceAddr(*byte, uint32) uint32                   { return 0 }
func hostGetHeaderNames(uint32, *byte, uint32) uint64          { return 0 }
func hostGetHeaderValues(uint32, string, *byte, uint32) uint64 { return 0 }
func hostSetHeaderValue(_ uint32, _, _ string)                 {}
func hostAddHeaderValue(_ uint32, _, _ string)                 {}
func hostRemoveHeader(uint32, string)                          {}
func hostReadBody(uint32, *byte, uint32) uint64                { return 0 }
func hostWriteBody(uint32, string)                             {}
func hostGetStatusCode() uint32                                { return 0 }
func hostSetStatusCode(uint32)                                 {}

func fail(message string) { panic(message) }
