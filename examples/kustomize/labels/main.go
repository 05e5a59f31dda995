// A KRM function in Go: adds the labels in the `data` of its functionConfig to every resource. It is a WASI command that
// reads a ResourceList and writes one, and knows nothing of the host. Functions that use kustomize's framework for them
// (sigs.k8s.io/kustomize/kyaml/fn/framework) are built in the same way.
//
// Build it from this directory (Go 1.24 or newer):
//
//	GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags="-s -w" -o ../labels.wasm .
package main

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

type resourceList struct {
	APIVersion string      `yaml:"apiVersion"`
	Kind       string      `yaml:"kind"`
	Items      []yaml.Node `yaml:"items"` // nodes keep comments and the order of fields
	Config     yaml.Node   `yaml:"functionConfig,omitempty"`
	Results    []result    `yaml:"results,omitempty"`
}

type result struct {
	Message  string `yaml:"message"`
	Severity string `yaml:"severity"`
}

// Returns the value of a key of a mapping, which is made if there is none.
func field(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	value := &yaml.Node{Kind: yaml.MappingNode}
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
	return value
}

func run() error {
	var list resourceList
	if err := yaml.NewDecoder(os.Stdin).Decode(&list); err != nil {
		return err
	}
	var config struct{ Data yaml.Node }
	if err := list.Config.Decode(&config); err != nil {
		return err
	}
	if len(config.Data.Content) == 0 {
		list.Results = append(list.Results, result{"the functionConfig has no labels in `data`", "error"})
	}
	for i := range list.Items {
		labels := field(field(&list.Items[i], "metadata"), "labels")
		for j := 0; j+1 < len(config.Data.Content); j += 2 {
			*field(labels, config.Data.Content[j].Value) = *config.Data.Content[j+1]
		}
	}
	return yaml.NewEncoder(os.Stdout).Encode(list)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
