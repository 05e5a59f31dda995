package main

import (
	"math"
	"testing"

	"github.com/mistletoe-rs/mistletoe/guest/go/scheduler"
)

func TestWithTag(t *testing.T) {
	for image, expected := range map[string]string{
		"web":                 "web:latest",
		"web:1":               "web:1",
		"registry:5000/web":   "registry:5000/web:latest",
		"registry:5000/web:1": "registry:5000/web:1",
		"web@sha256:0f1e":     "web@sha256:0f1e",
		"":                    ":latest",
	} {
		if found := withTag(image); found != expected {
			t.Errorf("withTag(%q) = %q", image, found)
		}
	}
}

func TestScore(t *testing.T) {
	for _, c := range []struct {
		names    []string
		nodes    int
		size, on int64
		score    int32
	}{
		{[]string{"a"}, 1, 23 * mib, 1, 0},
		{[]string{"a"}, 1, 1000 * mib, 1, 100},
		// (500 / 2 - 23) / (1000 - 23), and half of 977 more than 23.
		{[]string{"a"}, 2, 500 * mib, 1, 23},
		{[]string{"a"}, 1, 512 * mib, 1, 50},
		{[]string{"b"}, 1, 500 * mib, 1, 0},
		// (2 * 500 - 23) / (2 * 1000 - 23)
		{[]string{"a", "a"}, 1, 500 * mib, 1, 49},
		{nil, 1, 500 * mib, 1, 0},
		{[]string{"a"}, 0, 500 * mib, 1, 0},
		{[]string{"a", "a", "a"}, 1, math.MaxInt64, math.MaxInt64, 100},
		{[]string{"a", "a", "a"}, 1, math.MinInt64, math.MinInt64, 100},
		{[]string{"a", "a", "a"}, 1, math.MinInt64, 1, 0},
	} {
		onNode := map[string]scheduler.ImageState{"a": {Size: c.size, NumNodes: c.on}}
		if score := (images{c.names, c.nodes}).score(onNode); score != c.score {
			t.Errorf("%+v: %d", c, score)
		}
	}
}
