package main

import "testing"

func TestDigit(t *testing.T) {
	for name, expected := range map[string]byte{"node-17": '7', "7": '7', "node-7a": 0, "": 0, "node-\u0664": 0} {
		if found, ok := digit(name); ok != (expected != 0) || ok && found != expected {
			t.Errorf("digit(%q) = %c, %v", name, found, ok)
		}
	}
}

func TestConfigure(t *testing.T) {
	for _, config := range []string{`{`, `{"reverse": 1}`, `{"revers": true}`} {
		if err := new(nodeNumber).configure([]byte(config)); err == nil {
			t.Errorf("%q is a configuration", config)
		}
	}
	for config, expected := range map[string]nodeNumber{``: {}, `{}`: {}, `{"reverse": true}`: {Reverse: true}} {
		var p nodeNumber
		if err := p.configure([]byte(config)); err != nil || p != expected {
			t.Errorf("%q: %v, %v", config, p, err)
		}
	}
}

func TestFavours(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		p := nodeNumber{Reverse: reverse}
		for node, favoured := range map[string]bool{"node-17": true, "node-8": false, "node": false} {
			if p.favours('7', node) != (favoured != reverse) {
				t.Errorf("reverse %v: %s", reverse, node)
			}
		}
	}
}
