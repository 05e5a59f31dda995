package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// plugin is a host of httpwasm plugins as the talk shows it: net/http and wazero, with an instance for each request, or
// with one for the life of the server. The talk's host has no lock around the latter; this one does.
type plugin struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	mutex    sync.Mutex
	reused   *instance // nil if each request gets an instance of its own
}

// instance is an instance, and the functions of it that a request needs.
type instance struct {
	module            api.Module
	run, malloc, free api.Function
}

// exchange is the state of a request, which host functions find in their context.
type exchange struct {
	instance *instance
	input    []byte
	given    []uint64 // addresses to free after the request
	output   bytes.Buffer
}

type exchangeKey struct{}

func newPlugin(ctx context.Context, instances, path string) (http.Handler, error) {
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	runtime := wazero.NewRuntime(ctx)
	i32, i64 := api.ValueTypeI32, api.ValueTypeI64
	host := runtime.NewHostModuleBuilder("httpwasm")
	host.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(igets), nil, []api.ValueType{i64}).Export("igets")
	host.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(oputs), []api.ValueType{i32, i32}, nil).Export("oputs")
	// What a plugin reports is not a part of the response.
	ignore := api.GoModuleFunc(func(context.Context, api.Module, []uint64) {})
	host.NewFunctionBuilder().WithGoModuleFunction(ignore, []api.ValueType{i32, i32}, nil).Export("eputs")
	if _, err := host.Instantiate(ctx); err != nil {
		return nil, err
	}
	compiled, err := runtime.CompileModule(ctx, wasm)
	if err != nil {
		return nil, err
	}
	p := &plugin{runtime: runtime, compiled: compiled}
	switch instances {
	case "fresh":
		return p, nil
	case "reused":
		p.reused, err = p.instantiate(ctx)
		return p, err
	}
	return nil, fmt.Errorf("instances are fresh or reused, not %s", instances)
}

func (p *plugin) instantiate(ctx context.Context) (*instance, error) {
	// Without a name, so that there can be several.
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions("_start", "_initialize")
	module, err := p.runtime.InstantiateModule(ctx, p.compiled, config)
	if err != nil {
		return nil, err
	}
	i := &instance{module, module.ExportedFunction("run"), module.ExportedFunction("malloc"), module.ExportedFunction("free")}
	if i.run == nil || i.malloc == nil || i.free == nil {
		return nil, errors.Join(errors.New("no run, malloc or free"), module.Close(ctx))
	}
	return i, nil
}

func (p *plugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	output, err := p.respond(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(output) // fails if the client has left
}

func (p *plugin) respond(r *http.Request) ([]byte, error) {
	input, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	if p.reused != nil {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		return p.reused.respond(ctx, input)
	}
	i, err := p.instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer i.module.Close(ctx)
	return i.respond(ctx, input)
}

func (i *instance) respond(ctx context.Context, input []byte) ([]byte, error) {
	e := &exchange{instance: i, input: input}
	ctx = context.WithValue(ctx, exchangeKey{}, e)
	if _, err := i.run.Call(ctx); err != nil {
		return nil, err
	}
	for _, address := range e.given {
		if _, err := i.free.Call(ctx, address); err != nil {
			return nil, err
		}
	}
	return e.output.Bytes(), nil
}

func igets(ctx context.Context, module api.Module, stack []uint64) {
	e := ctx.Value(exchangeKey{}).(*exchange)
	if len(e.input) == 0 {
		stack[0] = 0
		return
	}
	var record []byte
	isOpen := true // without the delimiter at the end
	if end := bytes.IndexByte(e.input, '\n'); end >= 0 {
		record, e.input, isOpen = e.input[:end+1], e.input[end+1:], false
	} else {
		record, e.input = e.input, nil
	}
	length := uint64(len(record))
	if isOpen {
		length++
	}
	results, err := e.instance.malloc.Call(ctx, length)
	if err != nil {
		panic(err)
	}
	address := results[0]
	e.given = append(e.given, address)
	memory := module.Memory()
	if !memory.Write(uint32(address), record) ||
		isOpen && !memory.WriteByte(uint32(address)+uint32(length)-1, '\n') {
		panic("malloc returned a range outside the memory")
	}
	stack[0] = address<<32 | length
}

func oputs(ctx context.Context, module api.Module, stack []uint64) {
	e := ctx.Value(exchangeKey{}).(*exchange)
	text, ok := module.Memory().Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		panic("a range outside the memory")
	}
	e.output.Write(text)
}
