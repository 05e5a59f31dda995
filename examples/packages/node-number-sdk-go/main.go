// A plugin of the Kubernetes scheduler in Go, with the SDK in guest/go: it favours nodes whose name ends in the same digit
// as the pod's. It answers like node-number-sdk, which is in Rust.
//
// Its configuration is JSON, such as {"reverse": true, "required": true}; everything in it is optional. A node with the
// digit scores 10, any other 0; with reverse, it is the other way round. With required, nodes that would score 0 are
// refused. Only the last character of a name counts. A pod whose name does not end in a digit fits all nodes, and no node
// is favoured: each scores 10, or 0 with reverse.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/mistletoe-rs/mistletoe/guest/go/scheduler"
)

var plugin nodeNumber

func init() {
	scheduler.Configure(plugin.configure)
	scheduler.HandlePreFilter(plugin.preFilter)
}

type nodeNumber struct {
	Reverse  bool `json:"reverse"`
	Required bool `json:"required"`
}

func (p *nodeNumber) configure(config []byte) error {
	if len(config) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(p); err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	return nil
}

// The name in the cycle of the digit of the pod, if it has one.
const digitKey = "digit"

// A new node may have the digit.
//
//go:wasmexport enqueue
func enqueue() {
	scheduler.Enqueue(scheduler.ClusterEvent{Resource: scheduler.NodeResource, Actions: scheduler.Added})
}

func (p *nodeNumber) preFilter(c *scheduler.Cycle) ([]string, error) {
	pod, err := c.Pod().Metadata()
	if err != nil {
		return nil, err
	}
	digit, ok := digit(pod.Name)
	if ok {
		c.State[digitKey] = digit
	}
	if !ok || !p.Required {
		return nil, scheduler.Skip
	}
	return nil, nil
}

// Is not called if prefilter skips it.
//
//go:wasmexport filter
func filter() int32 { return scheduler.Filter(plugin.filter) }

func (p *nodeNumber) filter(c *scheduler.Cycle, node string) error {
	ofPod, ok := c.State[digitKey].(byte)
	if !ok || p.favours(ofPod, node) {
		return nil
	}
	not := " not"
	if p.Reverse {
		not = ""
	}
	return scheduler.Unresolvable(fmt.Sprintf("the name of the node does%s end in %c", not, ofPod))
}

//go:wasmexport score
func score() uint64 { return scheduler.Score(plugin.score) }

func (p *nodeNumber) score(c *scheduler.Cycle, node string) (int32, error) {
	favoured := !p.Reverse
	if ofPod, ok := c.State[digitKey].(byte); ok {
		favoured = p.favours(ofPod, node)
	}
	if favoured {
		return 10, nil
	}
	return 0, nil
}

func (p *nodeNumber) favours(ofPod byte, node string) bool {
	ofNode, ok := digit(node)
	return (ok && ofNode == ofPod) != p.Reverse
}

// Returns the digit that a name ends in.
func digit(name string) (digit byte, ok bool) {
	if name == "" {
		return 0, false
	}
	last := name[len(name)-1]
	return last, '0' <= last && last <= '9'
}

func main() {}
