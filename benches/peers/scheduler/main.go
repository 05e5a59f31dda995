// A host of scheduler plugins in Go on wazero, which the scheduler's benchmark compares with others.
//
//	scheduler calls MODULE OBJECTS
//	scheduler extender MODULE
//
// The first reads the objects, a pod and nodes in JSON, one on each line. Then it reads lines such as `filter 1000 3` from
// its standard input: what to do, for how many of the nodes, and how often. To each it responds with the nanoseconds that
// it took, and a sum to check. The second is a scheduler extender, which listens on a free port of the loopback address,
// and prints it to standard error.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "calls":
		return calls(args[1], args[2])
	case len(args) == 2 && args[0] == "extender":
		return serve(args[1])
	}
	return errors.New("expected calls MODULE OBJECTS, or extender MODULE")
}

// encoded is an object that was encoded before.
type encoded []byte

func (e encoded) Size() int { return len(e) }

func (e encoded) MarshalToSizedBuffer(buffer []byte) (int, error) { return copy(buffer, e), nil }

func calls(module, objects string) error {
	text, err := os.ReadFile(objects)
	if err != nil {
		return err
	}
	var pod v1.Pod
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if err := json.Unmarshal(lines[0], &pod); err != nil {
		return err
	}
	all := &cycle{}
	if message, err := pod.Marshal(); err != nil {
		return err
	} else {
		all.pod = encoded(message)
	}
	for _, line := range lines[1:] {
		var node v1.Node
		if err := json.Unmarshal(line, &node); err != nil {
			return err
		}
		message, err := node.Marshal()
		if err != nil {
			return err
		}
		all.add(node.Name, encoded(message))
	}
	ctx := context.Background()
	p, err := load(ctx, module)
	if err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var what string
		var count, repetitions int
		if _, err := fmt.Sscan(in.Text(), &what, &count, &repetitions); err != nil {
			return err
		}
		c := all.first(count)
		sum := 0
		begin := time.Now()
		for range repetitions {
			if sum, err = work(ctx, p, what, c, lines[1:1+count]); err != nil {
				return err
			}
		}
		fmt.Println(time.Since(begin).Nanoseconds(), sum)
	}
	return nil
}

// work does a piece of work. It returns how many nodes are left, the sum of the scores, or the length of the messages.
func work(ctx context.Context, p *plugin, what string, c *cycle, nodes [][]byte) (int, error) {
	sum := 0
	switch what {
	case "filter":
		result, err := p.filter(ctx, c)
		if err != nil {
			return 0, err
		}
		return len(result.fits), nil
	case "prioritize":
		scores, err := p.prioritize(ctx, c)
		for _, score := range scores {
			sum += int(score)
		}
		return sum, err
	case "json":
		for _, text := range nodes {
			var node v1.Node
			if err := json.Unmarshal(text, &node); err != nil {
				return 0, err
			}
			message, err := node.Marshal()
			if err != nil {
				return 0, err
			}
			sum += len(message)
		}
		return sum, nil
	}
	return 0, fmt.Errorf("what is %s?", what)
}
