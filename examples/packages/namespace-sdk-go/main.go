// The namespace package in Go, with the SDK in guest/go. Its name, in the description, is that of its module.
package main

import (
	_ "embed"
	"errors"
	"log"

	mistletoe "github.com/mistletoe-rs/mistletoe/guest/go"
)

// Input is the values that a user sets.
type Input struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Panic  string            `json:"panic"`
}

//go:embed schema.yaml
var schema string

func init() {
	labels := map[string]string{"mistletoe.dev/group": "examples"}
	mistletoe.Package(mistletoe.Info{Labels: labels, InputSchema: schema}, generate)
}

func generate(in Input) (*mistletoe.Files, error) {
	if in.Panic != "" {
		panic(in.Panic) // shows what the user sees if a package has a bug
	}
	if in.Name == "" {
		return nil, errors.New("the name is empty")
	}
	log.Printf("a namespace with %d labels", len(in.Labels))
	return new(mistletoe.Files).YAML("namespace.yaml", Namespace{"v1", "Namespace", Metadata{in.Name, in.Labels}}), nil
}

// Namespace is what Kubernetes expects. A package with more types than this imports `k8s.io/api`.
type Namespace struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
}

// Metadata is a part of Namespace.
type Metadata struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

func main() {}
