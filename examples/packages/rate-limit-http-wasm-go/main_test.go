package main

import (
	"strconv"
	"testing"
	"time"
)

func TestTake(t *testing.T) {
	l, err := parse("2 1/10")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at, wait uint64
	}{{0, 0}, {1, 0}, {2, 8}, {9, 1}, {10, 0}, {11, 9}, {40, 0}, {40, 0}, {40, 10}} {
		if wait := l.take("a", time.Duration(c.at)*time.Second); wait != c.wait {
			t.Errorf("at %d: %d instead of %d", c.at, wait, c.wait)
		}
	}
	if wait := l.take("b", 40*time.Second); wait != 0 {
		t.Errorf("another client waits %d", wait)
	}
}

func TestManyClients(t *testing.T) {
	l, err := parse("1 1/100")
	if err != nil {
		t.Fatal(err)
	}
	// Many more than there are buckets, a new one each millisecond. The latest of them keep theirs.
	for i := range 100_000 {
		client, now := strconv.Itoa(i), time.Duration(i)*time.Millisecond
		if l.take(client, now) != 0 || l.take(client, now) == 0 {
			t.Fatalf("client %d has another one's bucket", i)
		}
	}
	if last := 99_999 * time.Millisecond; l.take("0", last) != 0 || l.take("99999", last) == 0 {
		t.Error("the wrong client has lost its bucket")
	}
}

func TestClient(t *testing.T) {
	for _, c := range [][2]string{
		{"192.0.2.1:80", "192.0.2.1"},
		{"192.0.2.1", "192.0.2.1"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1"},
		{"[2001:DB8::1%eth0]:80", "2001:db8::/64"},
		{"2001:db8::1", "2001:db8::/64"},
		{"elsewhere", "elsewhere"},
		{"elsewhere:80", "elsewhere"},
	} {
		if found := client(c[0]); found != c[1] {
			t.Errorf("client(%q) = %q", c[0], found)
		}
	}
}
