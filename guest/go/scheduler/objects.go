package scheduler

// Pod is a pod, in the bytes that the host has sent: v1.Pod in protobuf. Each method reads a part of them.
type Pod []byte

// Node is a node of the cluster, in the bytes that the host has sent: v1.Node in protobuf. Each method reads a part of
// them.
type Node []byte

// ObjectMeta is the metadata of an object. What is missing is empty, here as everywhere.
type ObjectMeta struct {
	Name, Namespace, UID, ResourceVersion string
	Labels, Annotations                   map[string]string
}

// PodSpec is what a pod consists of.
type PodSpec struct {
	// InitContainers run before Containers.
	InitContainers, Containers []Container
	// NodeName is the name of the node that the pod is on, or is to be on.
	NodeName string
	// NodeSelector has the labels that a node must have.
	NodeSelector map[string]string
	// SchedulerName is the name of the profile of the scheduler that schedules the pod.
	SchedulerName string
	Priority      *int32
	Tolerations   []Toleration
}

// Container is a container of a pod. Its resources have quantities such as "500m".
type Container struct {
	Name, Image      string
	Requests, Limits map[string]string
}

// Toleration is a taint that a pod tolerates.
type Toleration struct{ Key, Operator, Value, Effect string }

// NodeSpec is how a node is set up.
type NodeSpec struct {
	// Unschedulable tells that the node takes no new pods.
	Unschedulable bool
	Taints        []Taint
}

// Taint is a taint of a node, which keeps pods away.
type Taint struct{ Key, Value, Effect string }

// NodeStatus is what a node has. Its resources have quantities such as "3920m".
type NodeStatus struct {
	// Allocatable has the resources that pods can have, Capacity all.
	Allocatable, Capacity map[string]string
	Images                []ContainerImage
}

// ContainerImage is an image on a node.
type ContainerImage struct {
	Names     []string
	SizeBytes int64
}

// Metadata reads the pod's metadata.
func (p Pod) Metadata() (ObjectMeta, error) { return metadata(p) }

// Metadata reads the node's metadata.
func (n Node) Metadata() (ObjectMeta, error) { return metadata(n) }

func metadata(object []byte) (m ObjectMeta, err error) {
	err = part(object, 1, map[uint64]setter{
		1:  setText(&m.Name),
		3:  setText(&m.Namespace),
		5:  setText(&m.UID),
		6:  setText(&m.ResourceVersion),
		11: addEntry(&m.Labels, setText),
		12: addEntry(&m.Annotations, setText),
	})
	return m, err
}

// Spec reads what the pod consists of.
func (p Pod) Spec() (s PodSpec, err error) {
	err = part(p, 2, map[uint64]setter{
		2:  add(&s.Containers, readContainer),
		7:  addEntry(&s.NodeSelector, setText),
		10: setText(&s.NodeName),
		19: setText(&s.SchedulerName),
		20: add(&s.InitContainers, readContainer),
		22: add(&s.Tolerations, func(message []byte, t *Toleration) error {
			return decode(message, map[uint64]setter{
				1: setText(&t.Key), 2: setText(&t.Operator), 3: setText(&t.Value), 4: setText(&t.Effect),
			})
		}),
		25: setNumber(func(number uint64) {
			priority := int32(number)
			s.Priority = &priority
		}),
	})
	return s, err
}

func readContainer(message []byte, c *Container) error {
	return decode(message, map[uint64]setter{
		1: setText(&c.Name),
		2: setText(&c.Image),
		8: setMessage(func(resources []byte) error {
			return decode(resources, map[uint64]setter{
				1: addEntry(&c.Limits, setQuantity),
				2: addEntry(&c.Requests, setQuantity),
			})
		}),
	})
}

// Spec reads how the node is set up.
func (n Node) Spec() (s NodeSpec, err error) {
	err = part(n, 2, map[uint64]setter{
		4: setNumber(func(number uint64) { s.Unschedulable = number != 0 }),
		5: add(&s.Taints, func(message []byte, t *Taint) error {
			return decode(message, map[uint64]setter{1: setText(&t.Key), 2: setText(&t.Value), 3: setText(&t.Effect)})
		}),
	})
	return s, err
}

// Status reads what the node has.
func (n Node) Status() (s NodeStatus, err error) {
	err = part(n, 3, map[uint64]setter{
		1: addEntry(&s.Capacity, setQuantity),
		2: addEntry(&s.Allocatable, setQuantity),
		8: add(&s.Images, func(message []byte, image *ContainerImage) error {
			return decode(message, map[uint64]setter{
				1: addText(&image.Names),
				2: setNumber(func(number uint64) { image.SizeBytes = int64(number) }),
			})
		}),
	})
	return s, err
}

// Decodes the message in a field of another one.
func part(object []byte, number uint64, setters map[uint64]setter) error {
	return decode(object, map[uint64]setter{
		number: setMessage(func(message []byte) error { return decode(message, setters) }),
	})
}

// Returns the nodes of a v1.NodeList.
func readNodes(list []byte) (nodes []Node, err error) {
	err = decode(list, map[uint64]setter{2: setMessage(func(node []byte) error {
		nodes = append(nodes, Node(node))
		return nil
	})})
	return nodes, err
}
