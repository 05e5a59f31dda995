package main

import "testing"

func TestANamespaceNamesItsTeam(t *testing.T) {
	files, err := generate(Input{Name: "web", Team: "payments"})
	if err != nil {
		t.Fatal(err)
	}
	const expected = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n  labels:\n    team: payments\n"
	if content, _ := files.Content("namespace.yaml"); content != expected {
		t.Errorf("found\n%s", content)
	}
}
