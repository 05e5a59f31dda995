//go:build !wasip1

package scheduler

const hasHost = false

func hostNode(string, *byte, uint32) uint32            { return 0 }
func hostNodeList(*byte, uint32) uint32                { return 0 }
func hostSeverity() Severity                           { return Info }
func hostLog(Severity, string)                         {}
func hostLogs(_ Severity, _, _ string)                 {}
func hostGetConfig(*byte, uint32) uint32               { return 0 }
func hostCurrentPod(*byte, uint32) uint32              { return 0 }
func hostTargetPod(*byte, uint32) uint32               { return 0 }
func hostCurrentNodeName(*byte, uint32) uint32         { return 0 }
func hostFilteredNodeList(*byte, uint32) uint32        { return 0 }
func hostNodeImageStates(string, *byte, uint32) uint32 { return 0 }
func hostNodeToStatusMap(*byte, uint32) uint32         { return 0 }
func hostNodeScoreList(*byte, uint32) uint32           { return 0 }
func hostClusterEvents(string)                         {}
func hostNodeNames(string)                             {}
func hostNominatedNodeName(string)                     {}
func hostNormalizedScoreList(string)                   {}
func hostStatusReason(string)                          {}
func hostEvent(string)                                 {}

func fail(message string) { panic(message) }
