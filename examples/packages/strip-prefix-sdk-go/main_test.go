package main

import "testing"

func TestStrip(t *testing.T) {
	for _, c := range []struct {
		uri, rest string
		ok        bool
	}{
		{"/api", "/", true},
		{"/api/", "/", true},
		{"/api/a%20b?c=d", "/a%20b?c=d", true},
		{"/api?c=d", "/?c=d", true},
		{"/apis", "", false},
		{"/api//a.example/", "", false},
		{"/v1/api", "", false},
		{"*", "", false},
	} {
		if rest, ok := strip(c.uri, "/api"); ok != c.ok || ok && rest != c.rest {
			t.Errorf("strip(%q) = %q, %v", c.uri, rest, ok)
		}
	}
}

func TestStart(t *testing.T) {
	for _, config := range []string{``, `{}`, `{"prefixes": ["api"]}`, `{"prefixes": ["/api/"]}`, `{"prefixes": 1}`} {
		if _, err := start([]byte(config)); err == nil {
			t.Errorf("%q is a configuration", config)
		}
	}
	if _, err := start([]byte(`{"prefixes": ["/api"]}`)); err != nil {
		t.Error(err)
	}
}
