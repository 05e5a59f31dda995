package scheduler

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"testing"
	"time"
)

// Returns an object in the bytes of Kubernetes' own encoder, after four bytes of length.
func object(t *testing.T, name string) []byte {
	t.Helper()
	bytes, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return bytes[4:]
}

func same(t *testing.T, found, expected any) {
	t.Helper()
	if !reflect.DeepEqual(found, expected) {
		t.Errorf("found\n%+v\nexpected\n%+v", found, expected)
	}
}

func TestPod(t *testing.T) {
	pod := Pod(object(t, "pod.pb"))
	m, err := pod.Metadata()
	same(t, err, nil)
	same(t, []string{m.Name, m.Namespace, m.UID, m.ResourceVersion},
		[]string{"web-5d9c-x7k2p", "default", "0c3e2a64-0d6f-4d5b-8f5c-5f3b6f0e8a11", "1234567"})
	same(t, m.Labels, map[string]string{"app": "web", "pod-template-hash": "5d9c"})
	same(t, m.Annotations["a"], "1")
	s, err := pod.Spec()
	same(t, err, nil)
	same(t, s.Containers, []Container{{
		Name: "web", Image: "registry.example/web@sha256:0f1e",
		Requests: map[string]string{"cpu": "250m", "memory": "512Mi"},
		Limits:   map[string]string{"cpu": "2", "memory": "1Gi"},
	}})
	same(t, s.InitContainers, []Container{{Name: "proxy", Image: "proxy"}})
	same(t, s.NodeSelector, map[string]string{"kubernetes.io/os": "linux"})
	same(t, []any{s.NodeName, s.SchedulerName, *s.Priority}, []any{"", "default-scheduler", int32(1000)})
	same(t, s.Tolerations, []Toleration{
		{}, {Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute"},
	})
}

func TestNode(t *testing.T) {
	message := object(t, "node.pb")
	list := append([]byte("\x0a\x06\x0a\x00\x12\x00\x1a\x00\x12\x00\x12"), binary.AppendUvarint(nil, uint64(len(message)))...)
	nodes, err := readNodes(append(list, message...))
	same(t, err, nil)
	same(t, nodes, []Node{{}, message})
	m, err := nodes[1].Metadata()
	same(t, err, nil)
	same(t, []string{m.Name, m.Labels["kubernetes.io/hostname"]}, []string{"node-7", "node-7"})
	spec, err := nodes[1].Spec()
	same(t, err, nil)
	same(t, spec, NodeSpec{true, []Taint{{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"}}})
	status, err := nodes[1].Status()
	same(t, err, nil)
	same(t, []string{status.Allocatable["cpu"], status.Capacity["cpu"], status.Capacity["memory"]}, []string{"3920m", "4", "16Gi"})
	same(t, status.Images, []ContainerImage{
		{[]string{"registry.k8s.io/pause@sha256:278f", "registry.k8s.io/pause:3.10"}, 320368},
		{[]string{"registry.example/web@sha256:0f1e", "registry.example/web:1.2"}, 98765432100},
		{},
	})
	spec, err = nodes[0].Spec()
	same(t, err, nil)
	same(t, spec, NodeSpec{})
}

// Reads all there is.
func read(message []byte) error {
	_, err := Pod(message).Metadata()
	_, spec := Pod(message).Spec()
	_, node := Node(message).Spec()
	_, status := Node(message).Status()
	_, list := readNodes(message)
	return errors.Join(err, spec, node, status, list)
}

func TestMalformed(t *testing.T) {
	for _, name := range []string{"pod.pb", "node.pb"} {
		message := object(t, name)
		whole := 0
		for length := range message {
			if read(message[:length]) == nil {
				whole++
			}
		}
		// Three fields are whole.
		if whole > 3 {
			t.Errorf("%d beginnings of %s are no error", whole, name)
		}
		changed := bytes.Clone(message)
		for i, b := range message {
			for _, other := range []byte{0xff, b ^ 1, b ^ 0x80} {
				changed[i] = other
				read(changed)
			}
			changed[i] = b
		}
	}
	for _, c := range []struct{ message, problem string }{
		{"\x0a\x05a", "the object is malformed: it is cut off"},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", "the object is malformed: it is cut off"},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02a", "the object is malformed: a number is longer than 64 bits"},
		{"\x11\x00", "the object is malformed: it is cut off"},
		{"\x0b", "the object is malformed: the type of a field is unknown"},
		{"\x02\x00", "the object is malformed: the number of a field is out of range"},
		{"\x0a\x02\x08\x01", "the object is malformed: the field 1 is a number"},
	} {
		if _, err := Pod(c.message).Metadata(); err == nil || err.Error() != c.problem {
			t.Errorf("%q: %v", c.message, err)
		}
	}
}

func TestResults(t *testing.T) {
	failed := errors.New("no")
	on := func(err error) int32 { return Filter(func(*Cycle, string) error { return err }) }
	same(t, []int32{on(nil), on(failed), on(Unschedulable("no")), on(Unresolvable("no")), on(Skip)}, []int32{0, 1, 2, 3, 5})
	same(t, on(fmt.Errorf("node: %w", Unschedulable("no"))), int32(2))
	same(t, on(&Status{Code: math.MinInt32}), int32(math.MinInt32))
	score := func(score int32, err error) uint64 {
		return Score(func(*Cycle, string) (int32, error) { return score, err })
	}
	same(t, []uint64{score(7, nil), score(-1, nil), score(7, failed)}, []uint64{7 << 32, 0xffffffff << 32, 1})
	permit := func(wait time.Duration, err error) uint64 {
		return Permit(func(*Cycle, string) (time.Duration, error) { return wait, err })
	}
	same(t, []uint64{permit(0, nil), permit(5*time.Millisecond, nil), permit(math.MaxInt64, nil), permit(0, Unschedulable(""))},
		[]uint64{0, 4<<32 | 5, 4<<32 | 0xffffffff, 2 << 32})
	postFilter := func(node string, overrides bool, err error) uint64 {
		return PostFilter(func(*Cycle, map[string]int32) (string, bool, error) { return node, overrides, err })
	}
	same(t, []uint64{postFilter("", false, nil), postFilter("a", true, nil), postFilter("", true, failed)}, []uint64{0, 1 << 32, 1})
}

func TestEachPreFilterStartsACycle(t *testing.T) {
	defer HandlePreFilter(nil)
	HandlePreFilter(func(c *Cycle) ([]string, error) {
		same(t, c.State, map[string]any{})
		c.State["key"] = 7
		return nil, Skip
	})
	same(t, []int32{begin(), begin()}, []int32{5, 5})
	same(t, Score(func(c *Cycle, _ string) (int32, error) { return int32(c.State["key"].(int)), nil }), uint64(7<<32))
	HandlePreFilter(nil)
	same(t, begin(), int32(0))
	same(t, cycle.State, map[string]any{})
}

func TestLog(t *testing.T) {
	same(t, encode([]any{"a", 1, "b\x00", errors.New("c\x00d")}), "a\x001\x00b\ufffd\x00c\ufffdd\x00")
	json, err := json.Marshal(Event{Regarding: Reference{Kind: "Pod"}, Type: "Normal", Note: "two\nlines"})
	same(t, err, nil)
	same(t, string(json), `{"RegardingReference":{"Kind":"Pod","APIVersion":"","Name":"","Namespace":"","UID":"","ResourceVersion":""},`+
		`"RelatedReference":null,"Eventtype":"Normal","Reason":"","Action":"","Note":"two\nlines"}`)
}
