// A Kubernetes namespace with the label of a team.
package main

import (
	_ "embed"

	mistletoe "github.com/mistletoe-rs/mistletoe/guest/go"
)

// Input has the values. The name is that of the installation.
type Input struct {
	Name string `json:"name"`
	Team string `json:"team"`
}

//go:embed schema.yaml
var schema string

func init() {
	mistletoe.Package(mistletoe.Info{Defaults: "team: platform", InputSchema: schema}, generate)
}

func generate(in Input) (*mistletoe.Files, error) {
	return new(mistletoe.Files).YAML("namespace.yaml", Namespace{
		APIVersion: "v1",
		Kind:       "Namespace",
		Metadata:   Metadata{Name: in.Name, Labels: map[string]string{"team": in.Team}},
	}), nil
}

// Namespace is a part of what Kubernetes defines in k8s.io/api/core/v1, which a package can import.
type Namespace struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
}

// Metadata is a part of the same.
type Metadata struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

func main() {}
