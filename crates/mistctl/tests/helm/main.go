// Command helm prints what Helm makes of the inputs in cases.json: one JSON object for each of them, on a line of its
// own, with the values or that it is an error.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"

	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli/values"
)

// A case is a command line, the files that it names, and the defaults of the package.
type testCase struct {
	Args     []string          `json:"args"`
	Files    map[string]string `json:"files"`
	Defaults string            `json:"defaults"`
}

func main() {
	log.SetOutput(io.Discard)
	text, err := os.ReadFile("cases.json")
	check(err)
	var cases []testCase
	check(json.Unmarshal(text, &cases))
	scratch, err := os.MkdirTemp("", "helm-values")
	check(err)
	defer os.RemoveAll(scratch)
	check(os.Chdir(scratch))
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, c := range cases {
		for name, text := range c.Files {
			check(os.WriteFile(name, []byte(text), 0o600))
		}
		outcome := map[string]any{"error": true}
		if merged, err := merge(c); err == nil {
			outcome = map[string]any{"values": merged}
		}
		check(out.Encode(outcome))
		for name := range c.Files {
			check(os.Remove(name))
		}
	}
}

// merge does what `helm install` does before it renders a chart.
func merge(c testCase) (map[string]any, error) {
	options := values.Options{}
	flags := map[string]*[]string{
		"-f":           &options.ValueFiles,
		"--set":        &options.Values,
		"--set-string": &options.StringValues,
		"--set-json":   &options.JSONValues,
		"--set-file":   &options.FileValues,
	}
	for i := 0; i+1 < len(c.Args); i += 2 {
		list, ok := flags[c.Args[i]]
		if !ok {
			log.Fatalf("no such flag: %s", c.Args[i])
		}
		*list = append(*list, c.Args[i+1])
	}
	merged, err := options.MergeValues(nil)
	if err != nil || c.Defaults == "" {
		return merged, err
	}
	defaults, err := loader.LoadValues(bytes.NewReader([]byte(c.Defaults)))
	if err != nil {
		return nil, err
	}
	return util.CoalesceValues(&chart.Chart{Metadata: &chart.Metadata{Name: "c"}, Values: defaults}, merged)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
