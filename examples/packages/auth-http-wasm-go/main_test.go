package main

import "testing"

func TestAdmits(t *testing.T) {
	a, err := parse("# a comment\n\nrealm a b\nbearer token\nbasic ann:pass:word\n")
	if err != nil || a.realm != "a b" {
		t.Fatal(a, err)
	}
	for header, admitted := range map[string]bool{
		"Bearer token":   true,
		"BEARER  token ": true,
		// printf ann:pass:word | base64
		"Basic YW5uOnBhc3M6d29yZA==":  true,
		"Bearer YW5uOnBhc3M6d29yZA==": false,
		"Basic token":                 false,
		"Bearer toke":                 false,
		"Bearer":                      false,
		"":                            false,
	} {
		if a.admits(header) != admitted {
			t.Errorf("%q: expected %v", header, admitted)
		}
	}
}

func TestParse(t *testing.T) {
	for _, config := range []string{"", "realm a", "bearer", "bearer t\nrealm \"a\"", "basic ann", "digest ann"} {
		if _, err := parse(config); err == nil {
			t.Errorf("%q is a configuration", config)
		}
	}
}
