package main

import (
	"context"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// The statuses of plugins.
const (
	success       = 0
	unschedulable = 2
	unresolvable  = 3
)

// message is an object that can be written in protobuf, as Kubernetes' types can.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// cycle is a pod that is scheduled, and the nodes.
type cycle struct {
	pod   message
	names []string
	nodes map[string]message
}

func (c *cycle) add(name string, node message) {
	if c.nodes == nil {
		c.nodes = map[string]message{}
	}
	c.names = append(c.names, name)
	c.nodes[name] = node
}

// first returns a cycle with the first nodes.
func (c *cycle) first(count int) *cycle {
	return &cycle{c.pod, c.names[:count], c.nodes}
}

// filtered is what a plugin says about the nodes.
type filtered struct {
	fits    []int
	refused []refusal
}

type refusal struct {
	node   string
	status int32
	reason string
}

// plugin is an instance of a plugin with prefilter, filter and score. It writes objects into the memory of the guest, as
// the host of kube-scheduler-wasm-extension does. It has no limits.
type plugin struct {
	prefilterFn, filterFn, scoreFn api.Function
	stack                          []uint64
	call                           call
}

// call is what the host functions find.
type call struct {
	cycle  *cycle
	node   string
	reason string
}

func load(ctx context.Context, path string) (*plugin, error) {
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &plugin{stack: make([]uint64, 1)}
	runtime := wazero.NewRuntime(ctx)
	numbers := func(count int) []api.ValueType {
		types := make([]api.ValueType, count)
		for i := range types {
			types[i] = api.ValueTypeI32
		}
		return types
	}
	define := func(host wazero.HostModuleBuilder, name string, params, results int, function api.GoModuleFunc) {
		host.NewFunctionBuilder().WithGoModuleFunction(function, numbers(params), numbers(results)).Export(name)
	}
	host := runtime.NewHostModuleBuilder("k8s.io/api")
	define(host, "node", 4, 1, p.node)
	if _, err := host.Instantiate(ctx); err != nil {
		return nil, err
	}
	host = runtime.NewHostModuleBuilder("k8s.io/scheduler")
	define(host, "currentPod", 2, 1, p.currentPod)
	define(host, "currentNodeName", 2, 1, p.currentNodeName)
	define(host, "result.status_reason", 2, 0, p.statusReason)
	if _, err := host.Instantiate(ctx); err != nil {
		return nil, err
	}
	module, err := runtime.Instantiate(ctx, wasm)
	if err != nil {
		return nil, err
	}
	for name, function := range map[string]*api.Function{
		"prefilter": &p.prefilterFn, "filter": &p.filterFn, "score": &p.scoreFn,
	} {
		if *function = module.ExportedFunction(name); *function == nil {
			return nil, fmt.Errorf("there is no %s", name)
		}
	}
	return p, nil
}

// run calls a function, and returns its result.
func (p *plugin) run(ctx context.Context, function api.Function, node string) (uint64, error) {
	p.call.node, p.call.reason = node, ""
	err := function.CallWithStack(ctx, p.stack)
	return p.stack[0], err
}

func (p *plugin) failure(status int32) error {
	return fmt.Errorf("status %d: %s", status, p.call.reason)
}

func (p *plugin) begin(ctx context.Context, c *cycle) error {
	p.call.cycle = c
	result, err := p.run(ctx, p.prefilterFn, "")
	if status := int32(result); err == nil && status != success {
		err = p.failure(status)
	}
	return err
}

func (p *plugin) filter(ctx context.Context, c *cycle) (*filtered, error) {
	if err := p.begin(ctx, c); err != nil {
		return nil, err
	}
	result := &filtered{}
	for i, name := range c.names {
		status, err := p.run(ctx, p.filterFn, name)
		if err != nil {
			return nil, err
		}
		switch status := int32(status); status {
		case success:
			result.fits = append(result.fits, i)
		case unschedulable, unresolvable:
			result.refused = append(result.refused, refusal{name, status, p.call.reason})
		default:
			return nil, p.failure(status)
		}
	}
	return result, nil
}

func (p *plugin) prioritize(ctx context.Context, c *cycle) ([]int64, error) {
	if err := p.begin(ctx, c); err != nil {
		return nil, err
	}
	scores := make([]int64, 0, len(c.names))
	for _, name := range c.names {
		score, err := p.run(ctx, p.scoreFn, name)
		if err != nil {
			return nil, err
		}
		if status := int32(score); status != success {
			return nil, p.failure(status)
		}
		scores = append(scores, int64(int32(score>>32)))
	}
	return scores, nil
}

func (p *plugin) node(_ context.Context, module api.Module, stack []uint64) {
	name := string(read(module, stack[0], stack[1]))
	stack[0] = write(module, p.call.cycle.nodes[name], stack[2], stack[3])
}

func (p *plugin) currentPod(_ context.Context, module api.Module, stack []uint64) {
	stack[0] = write(module, p.call.cycle.pod, stack[0], stack[1])
}

func (p *plugin) currentNodeName(_ context.Context, module api.Module, stack []uint64) {
	name := p.call.node
	if len(name) <= int(uint32(stack[1])) && !module.Memory().WriteString(uint32(stack[0]), name) {
		panic("a range outside the memory")
	}
	stack[0] = uint64(len(name))
}

func (p *plugin) statusReason(_ context.Context, module api.Module, stack []uint64) {
	p.call.reason = string(read(module, stack[0], stack[1]))
}

func read(module api.Module, address, length uint64) []byte {
	bytes, ok := module.Memory().Read(uint32(address), uint32(length))
	if !ok {
		panic("a range outside the memory")
	}
	return bytes
}

// write writes an object to a buffer of the guest if it fits, and returns its length.
func write(module api.Module, object message, buffer, limit uint64) uint64 {
	if object == nil {
		return 0
	}
	size := object.Size()
	if size > 0 && size <= int(uint32(limit)) {
		if _, err := object.MarshalToSizedBuffer(read(module, buffer, uint64(size))); err != nil {
			panic(err)
		}
	}
	return uint64(size)
}
