package main

import "testing"

func TestNamespace(t *testing.T) {
	files, err := generate(Input{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	const expected = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n"
	if content, _ := files.Content("namespace.yaml"); content != expected {
		t.Errorf("found\n%s", content)
	}
	if _, err := generate(Input{}); err == nil {
		t.Error("an empty name is accepted")
	}
}
