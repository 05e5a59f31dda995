package scheduler

import "os"

const hasHost = true

// The functions of the interface. A string is passed as its address and its length.

//go:wasmimport k8s.io/api node
func hostNode(name string, buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/api nodeList
func hostNodeList(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/klog severity
func hostSeverity() Severity

//go:wasmimport k8s.io/klog log
func hostLog(severity Severity, message string)

//go:wasmimport k8s.io/klog logs
func hostLogs(severity Severity, message, pairs string)

//go:wasmimport k8s.io/scheduler get_config
func hostGetConfig(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler currentPod
func hostCurrentPod(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler targetPod
func hostTargetPod(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler currentNodeName
func hostCurrentNodeName(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler filteredNodeList
func hostFilteredNodeList(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler nodeImageStates
func hostNodeImageStates(name string, buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler nodeToStatusMap
func hostNodeToStatusMap(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler nodeScoreList
func hostNodeScoreList(buffer *byte, limit uint32) uint32

//go:wasmimport k8s.io/scheduler result.cluster_events
func hostClusterEvents(bytes string)

//go:wasmimport k8s.io/scheduler result.node_names
func hostNodeNames(bytes string)

//go:wasmimport k8s.io/scheduler result.nominated_node_name
func hostNominatedNodeName(bytes string)

//go:wasmimport k8s.io/scheduler result.normalized_score_list
func hostNormalizedScoreList(bytes string)

//go:wasmimport k8s.io/scheduler result.status_reason
func hostStatusReason(bytes string)

//go:wasmimport k8s.io/scheduler handle.eventrecorder.eventf
func hostEvent(bytes string)

// Every plugin has this function, since it drops the cycle before.
//
//go:wasmexport prefilter
func exportPreFilter() int32 { return begin() }

// Ends the module.
func fail(message string) {
	Log(Fatal, message)
	os.Exit(1)
}
