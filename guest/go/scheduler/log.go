package scheduler

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Severity is how severe a message of the log is.
type Severity int32

const (
	Info Severity = iota
	Warning
	Error
	Fatal
)

// Log writes a message to the host's log, if the host logs this severity.
func Log(severity Severity, message string) {
	if severity >= hostSeverity() {
		hostLog(severity, message)
	}
}

// LogWith writes a message with keys and values, which take turns, to the host's log, if the host logs this severity.
func LogWith(severity Severity, message string, pairs ...any) {
	if severity >= hostSeverity() {
		hostLogs(severity, message, encode(pairs))
	}
}

// Writes keys and values, each of which a zero byte ends. A zero byte in one of them would end it, too.
func encode(pairs []any) string {
	var text strings.Builder
	for _, part := range pairs {
		text.WriteString(strings.ReplaceAll(fmt.Sprint(part), "\x00", "\ufffd"))
		text.WriteByte(0)
	}
	return text.String()
}

// Reference is a reference to an object of the cluster.
type Reference struct {
	Kind, APIVersion, Name, Namespace, UID, ResourceVersion string
}

// Reference returns a reference to the pod.
func (p Pod) Reference() (Reference, error) {
	m, err := p.Metadata()
	return Reference{"Pod", "v1", m.Name, m.Namespace, m.UID, m.ResourceVersion}, err
}

// Event is an event about an object of the cluster.
type Event struct {
	Regarding Reference `json:"RegardingReference"`
	// Related is another object that has to do with it. Optional.
	Related *Reference `json:"RelatedReference"`
	// Type is Normal or Warning.
	Type string `json:"Eventtype"`
	// Reason and Action are words, Note is what happened.
	Reason, Action, Note string
}

// Record asks the host to record the event.
func (e Event) Record() {
	// Strings always have a JSON.
	bytes, _ := json.Marshal(e)
	hostEvent(string(bytes))
}
