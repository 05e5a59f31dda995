// A plugin of the Kubernetes scheduler in Go, with the SDK in guest/go: it favours nodes that have the images of the pod
// already, as the scheduler's own plugin ImageLocality does. It answers like image-locality-sdk, which is in Rust.
//
// The size of each image that a node has counts as much as the part of all nodes that have it, so that pods do not all go
// to the few nodes with an image. A sum of up to 23 MiB scores 0, and of 1,000 MiB for each container 100.
package main

import (
	"errors"
	"strings"

	"github.com/mistletoe-rs/mistletoe/guest/go/scheduler"
)

// What is the same for all nodes.
type images struct {
	// The name of the image of each container.
	names []string
	// The number of nodes.
	nodes int
}

const (
	mib = 1 << 20
	// The sum that scores 0.
	minSum = 23 * mib
	// The sum that scores the maximum, for each container.
	maxSum   = 1000 * mib
	maxScore = 100
	// More than a pod has, so that no product overflows.
	maxContainers = 1 << 20
)

// The name of the images in the cycle.
const imagesKey = "images"

//go:wasmexport prescore
func prescore() int32 {
	return scheduler.PreScore(func(c *scheduler.Cycle, _ []string) error {
		pod, err := c.Pod().Spec()
		if err != nil {
			return err
		}
		nodes, err := c.Nodes()
		if err != nil {
			return err
		}
		images := images{nodes: len(nodes)}
		for _, container := range append(pod.InitContainers, pod.Containers...) {
			images.names = append(images.names, withTag(container.Image))
		}
		c.State[imagesKey] = images
		return nil
	})
}

//go:wasmexport score
func score() uint64 {
	return scheduler.Score(func(c *scheduler.Cycle, node string) (int32, error) {
		images, ok := c.State[imagesKey].(images)
		if !ok {
			return 0, errors.New("the host has not called `prescore`")
		}
		onNode, err := c.ImageStates(node)
		if err != nil {
			return 0, err
		}
		return images.score(onNode), nil
	})
}

// Returns the score of a node with these images.
func (i images) score(onNode map[string]scheduler.ImageState) int32 {
	most := int64(maxSum) * int64(min(len(i.names), maxContainers))
	if most <= minSum || i.nodes == 0 {
		return 0
	}
	sum := int64(0)
	for _, name := range i.names {
		image := onNode[name]
		spread := float64(image.NumNodes) / float64(i.nodes)
		// More than the maximum counts as the maximum, so the sum does not overflow.
		sum += int64(min(max(float64(image.Size)*spread, 0), float64(most)))
		sum = min(sum, most)
	}
	return int32(maxScore * (max(sum, minSum) - minSum) / (most - minSum))
}

// Returns the name of an image with its tag, as nodes name it.
func withTag(image string) string {
	if strings.Contains(image[strings.LastIndex(image, "/")+1:], ":") {
		return image
	}
	return image + ":latest"
}

func main() {}
