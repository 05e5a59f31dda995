package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	v1 "k8s.io/api/core/v1"
	extender "k8s.io/kube-scheduler/extender/v1"
)

// server is a scheduler extender as one is written in Go: net/http, encoding/json and the types of Kubernetes. It has one
// instance of the plugin, with a lock.
type server struct {
	mutex  sync.Mutex
	plugin *plugin
}

func serve(module string) error {
	plugin, err := load(context.Background(), module)
	if err != nil {
		return err
	}
	s := &server{plugin: plugin}
	http.HandleFunc("/scheduler/filter", s.handler(s.filter))
	http.HandleFunc("/scheduler/prioritize", s.handler(s.prioritize))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on http://%s\n", listener.Addr())
	return http.Serve(listener, nil)
}

func (s *server) handler(respond func(context.Context, *extender.ExtenderArgs, *cycle) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		output, err := s.respond(r, respond)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(output) // fails if the client has left
	}
}

func (s *server) respond(
	r *http.Request, respond func(context.Context, *extender.ExtenderArgs, *cycle) (any, error),
) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var args extender.ExtenderArgs
	if err := json.Unmarshal(body, &args); err != nil {
		return nil, err
	}
	c := &cycle{pod: args.Pod}
	for i := range args.Nodes.Items {
		node := &args.Nodes.Items[i]
		c.add(node.Name, node)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	result, err := respond(r.Context(), &args, c)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

func (s *server) filter(ctx context.Context, args *extender.ExtenderArgs, c *cycle) (any, error) {
	filtered, err := s.plugin.filter(ctx, c)
	if err != nil {
		return nil, err
	}
	result := &extender.ExtenderFilterResult{
		Nodes:                      &v1.NodeList{},
		FailedNodes:                extender.FailedNodesMap{},
		FailedAndUnresolvableNodes: extender.FailedNodesMap{},
	}
	for _, i := range filtered.fits {
		result.Nodes.Items = append(result.Nodes.Items, args.Nodes.Items[i])
	}
	for _, refusal := range filtered.refused {
		if refusal.status == unresolvable {
			result.FailedAndUnresolvableNodes[refusal.node] = refusal.reason
		} else {
			result.FailedNodes[refusal.node] = refusal.reason
		}
	}
	return result, nil
}

func (s *server) prioritize(ctx context.Context, args *extender.ExtenderArgs, c *cycle) (any, error) {
	scores, err := s.plugin.prioritize(ctx, c)
	if err != nil {
		return nil, err
	}
	result := extender.HostPriorityList{}
	for i, score := range scores {
		result = append(result, extender.HostPriority{Host: args.Nodes.Items[i].Name, Score: score / 10})
	}
	return result, nil
}
