// Package scheduler makes plugins of the Kubernetes scheduler, with the interface of kube-scheduler-wasm-extension.
//
// A plugin exports a function for each extension point that it takes part in. The functions of this package with the
// names of the extension points call what the plugin does there:
//
//	//go:wasmexport filter
//	func filter() int32 {
//		return scheduler.Filter(func(c *scheduler.Cycle, node string) error {
//			if strings.HasPrefix(node, "spare-") {
//				return scheduler.Unschedulable("the node is a spare one")
//			}
//			return nil
//		})
//	}
//
//	func main() {}
//
// Built as a reactor, that is a whole plugin:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o plugin.wasm .
//
// Every plugin has the export prefilter, which drops the cycle before; [HandlePreFilter] says what else it does. The
// exports and their types:
//
//	addpod, bind, filter, normalizescore, prebind, prescore, removepod, reserve    int32
//	permit, postfilter, score                                                      uint64
//	enqueue, postbind, unreserve                                                   none
//
// The exports addpod, removepod and postfilter need filter, prescore needs score, and prebind and postbind need bind: a
// host refuses the module otherwise.
//
// An error that a plugin returns is a status: a [*Status] the one that it says, any other error one with the code
// [CodeError]. A panic ends the instance; its message is in the reason of the failure.
//
// An instance of the module schedules one pod at a time, and one after the other. Variables of the program are there for
// all of them. What belongs to one pod is in the [Cycle].
//
// On other platforms than wasip1, such as in tests, there is no host: objects, lists and texts are empty, and what is
// logged is dropped.
package scheduler

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mistletoe-rs/mistletoe/guest/go/internal/memory"
)

// The codes of a [Status].
const (
	// CodeError is a failure of the plugin.
	CodeError int32 = 1
	// CodeUnschedulable is that of a node that the pod does not fit now.
	CodeUnschedulable int32 = 2
	// CodeUnresolvable is that of a node that the pod would not fit if other pods went.
	CodeUnresolvable int32 = 3
	// CodeWait is that of a pod that has to wait for a permit.
	CodeWait int32 = 4
	// CodeSkip is that of a plugin that has nothing to say on this pod.
	CodeSkip int32 = 5
)

// Status is what a plugin says other than success: a code, and a reason for people. Hosts cut a long one off.
type Status struct {
	Code   int32
	Reason string
}

func (s *Status) Error() string { return fmt.Sprintf("status %d: %s", s.Code, s.Reason) }

// Unschedulable says that the pod does not fit now.
func Unschedulable(reason string) error { return &Status{CodeUnschedulable, reason} }

// Unresolvable says that the pod does not fit, and would not if other pods went.
func Unresolvable(reason string) error { return &Status{CodeUnresolvable, reason} }

// Skip says that the plugin has nothing to say on this pod. From prefilter, it means that the host does not call filter;
// from prescore, that it does not call score.
var Skip error = &Status{Code: CodeSkip}

// Cycle is what is known while one pod is scheduled: the pod, the nodes, and what the plugin has put into State.
type Cycle struct {
	// State is the plugin's own. It is empty at the start of a cycle.
	State map[string]any

	pod Pod
}

var cycle = &Cycle{State: map[string]any{}}

// Pod returns the pod that is scheduled. The host is asked once in a cycle.
func (c *Cycle) Pod() Pod {
	if c.pod == nil {
		c.pod = memory.Fill(hostCurrentPod)
	}
	return c.pod
}

// Node asks the host for a node. It is nil if the host does not know the node, or knows nothing but its name.
func (c *Cycle) Node(name string) Node {
	node := memory.Fill(func(buffer *byte, limit uint32) uint32 { return hostNode(name, buffer, limit) })
	if len(node) == 0 {
		return nil
	}
	return node
}

// Nodes asks the host for all nodes, also those that the pod does not fit. Each call copies all of them: a plugin that
// needs something of them for each node puts it into the cycle.
func (c *Cycle) Nodes() ([]Node, error) { return readNodes(memory.Fill(hostNodeList)) }

// ImageState is an image of a node.
type ImageState struct {
	// Size is in bytes.
	Size int64
	// NumNodes is the number of nodes that have the image.
	NumNodes int64
}

// ImageStates asks the host for the images on a node, by their names. There are none if the host does not know the node.
func (c *Cycle) ImageStates(node string) (images map[string]ImageState, err error) {
	err = readJSON(func(buffer *byte, limit uint32) uint32 { return hostNodeImageStates(node, buffer, limit) }, &images)
	return images, err
}

// Configure calls a function with the plugin's configuration, bytes in a form that the plugin defines. Call it in an
// init function: a host does not call main. If the function returns an error, the error goes to the host's log, and the
// module ends.
//
// On other platforms than wasip1, Configure does nothing.
func Configure(read func(config []byte) error) {
	if !hasHost {
		return
	}
	if err := read(memory.Fill(hostGetConfig)); err != nil {
		fail(err.Error())
	}
}

var preFilter func(c *Cycle) (nodes []string, err error)

// HandlePreFilter sets what is done at the start of a cycle. The function returns the names of the nodes that are left,
// or nil for all. Call HandlePreFilter in an init function.
func HandlePreFilter(f func(c *Cycle) (nodes []string, err error)) { preFilter = f }

// Starts a cycle.
func begin() int32 {
	cycle = &Cycle{State: map[string]any{}}
	if preFilter == nil {
		return 0
	}
	nodes, err := preFilter(cycle)
	if err == nil && nodes != nil {
		names := strings.Join(nodes, "\x00")
		if len(nodes) > 0 {
			names += "\x00"
		}
		hostNodeNames(names)
	}
	return status(err)
}

// Resource is a kind of resource of a [ClusterEvent].
type Resource uint32

const (
	PodResource Resource = iota
	NodeResource
	PersistentVolume
	PersistentVolumeClaim
	PodSchedulingContext
	ResourceClaim
	StorageClass
	CSINode
	CSIDriver
	CSIStorageCapacity
	AllResources
)

// Action is what happens to a resource. Actions are bits.
type Action uint32

const (
	Added Action = 1 << iota
	Deleted
	AllocatableUpdated
	LabelUpdated
	TaintUpdated
	ConditionUpdated
)

// ClusterEvent is what may make a pod schedulable that was not: actions on a kind of resource.
type ClusterEvent struct {
	Resource Resource
	Actions  Action
}

// Enqueue is for the export enqueue, which belongs to no cycle.
func Enqueue(events ...ClusterEvent) {
	var bytes []byte
	for _, event := range events {
		bytes = binary.LittleEndian.AppendUint32(bytes, uint32(event.Resource))
		bytes = binary.LittleEndian.AppendUint32(bytes, uint32(event.Actions))
	}
	hostClusterEvents(string(bytes))
}

// Filter is for the export filter: it asks whether the pod fits a node.
func Filter(f func(c *Cycle, node string) error) int32 { return onNode(f) }

// PostFilter is for the export postfilter: it asks what to do if no node is left. The nodes come with the codes of their
// statuses. The function returns the node that is nominated, or "" to take a nomination back; overrides tells whether it
// has an opinion at all.
func PostFilter(f func(c *Cycle, codes map[string]int32) (node string, overrides bool, err error)) uint64 {
	codes := map[string]int32{}
	err := readJSON(hostNodeToStatusMap, &codes)
	if err != nil {
		return pair(0, status(err))
	}
	node, overrides, err := f(cycle, codes)
	if err != nil || !overrides {
		return pair(0, status(err))
	}
	hostNominatedNodeName(node)
	return pair(1, 0)
}

// AddPod is for the export addpod: it supposes that another pod were on the node.
func AddPod(f func(c *Cycle, pod Pod, node string) error) int32 { return onPod(f) }

// RemovePod is for the export removepod: it supposes that another pod were not on the node.
func RemovePod(f func(c *Cycle, pod Pod, node string) error) int32 { return onPod(f) }

// PreScore is for the export prescore: it prepares the scores of these nodes.
func PreScore(f func(c *Cycle, nodes []string) error) int32 {
	var nodes []string
	err := readJSON(hostFilteredNodeList, &nodes)
	if err == nil {
		err = f(cycle, nodes)
	}
	return status(err)
}

// Score is for the export score: it asks for the score of a node, 0 to 100.
func Score(f func(c *Cycle, node string) (int32, error)) uint64 {
	score, err := f(cycle, currentNode())
	if err != nil {
		return pair(0, status(err))
	}
	return pair(score, 0)
}

// NormalizeScore is for the export normalizescore: it changes the scores in place.
func NormalizeScore(f func(c *Cycle, scores map[string]int64) error) int32 {
	scores := map[string]int64{}
	err := readJSON(hostNodeScoreList, &scores)
	if err == nil {
		err = f(cycle, scores)
	}
	if err == nil {
		// Names and numbers always have a JSON.
		bytes, _ := json.Marshal(scores)
		hostNormalizedScoreList(string(bytes))
	}
	return status(err)
}

// Reserve is for the export reserve: it reserves what the pod needs on the node.
func Reserve(f func(c *Cycle, node string) error) int32 { return onNode(f) }

// Unreserve is for the export unreserve: it takes that back.
func Unreserve(f func(c *Cycle, node string)) { f(cycle, currentNode()) }

// Permit is for the export permit: it asks how long the pod waits before it is bound. 0 lets it pass.
func Permit(f func(c *Cycle, node string) (time.Duration, error)) uint64 {
	wait, err := f(cycle, currentNode())
	// The other way round than all others.
	if err != nil || wait <= 0 {
		return pair(status(err), 0)
	}
	return pair(CodeWait, int32(uint32(min(wait.Milliseconds(), math.MaxUint32))))
}

// PreBind is for the export prebind: it prepares the binding.
func PreBind(f func(c *Cycle, node string) error) int32 { return onNode(f) }

// Bind is for the export bind: it binds the pod to the node.
func Bind(f func(c *Cycle, node string) error) int32 { return onNode(f) }

// PostBind is for the export postbind: the pod is bound.
func PostBind(f func(c *Cycle, node string)) { f(cycle, currentNode()) }

func onNode(f func(c *Cycle, node string) error) int32 { return status(f(cycle, currentNode())) }

func onPod(f func(c *Cycle, pod Pod, node string) error) int32 {
	return status(f(cycle, memory.Fill(hostTargetPod), currentNode()))
}

func currentNode() string { return string(memory.Fill(hostCurrentNodeName)) }

// Reads what a function of the host writes. Nothing is no JSON, and leaves the value as it is.
func readJSON(get func(buffer *byte, limit uint32) uint32, to any) error {
	bytes := memory.Fill(get)
	if len(bytes) == 0 {
		return nil
	}
	if err := json.Unmarshal(bytes, to); err != nil {
		return fmt.Errorf("the host's JSON is malformed: %w", err)
	}
	return nil
}

// Hands the reason over, if there is one, and returns the code.
func status(err error) int32 {
	if err == nil {
		return 0
	}
	var s *Status
	if !errors.As(err, &s) {
		s = &Status{CodeError, err.Error()}
	}
	if s.Reason != "" {
		hostStatusReason(s.Reason)
	}
	return s.Code
}

func pair(upper, lower int32) uint64 { return uint64(uint32(upper))<<32 | uint64(uint32(lower)) }
