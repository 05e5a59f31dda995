// Middleware in Go, with http-wasm's own guest library: it limits how many requests a client sends, as the middleware in
// ../rate-limit-sdk-c does, with the same configuration, `BURST REQUESTS/SECONDS`. Like that one, it counts in its memory:
// run it as one instance that is reused.
package main

import (
	"errors"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/http-wasm/http-wasm-guest-tinygo/handler/api"
)

// A reactor's main is not called.
func main() {}

func start(config string) (api.HandleRequest, error) {
	limiter, err := parse(config)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	return func(req api.Request, resp api.Response) (next bool, context uint32) {
		wait := limiter.take(client(req.GetSourceAddr()), time.Since(begun))
		if wait == 0 {
			return true, 0
		}
		resp.SetStatusCode(429)
		resp.Headers().Set("retry-after", strconv.FormatUint(wait, 10))
		resp.Headers().Set("content-type", "text/plain")
		resp.Body().WriteString("too many requests\n")
		return false, 0
	}, nil
}

// A limiter has a token bucket for each client. A client's bucket is in the set that its hash selects. If all buckets of
// the set are in use by others, the one that is full next makes room.
type limiter struct {
	// Nanoseconds in which a bucket gets one token, and gets full.
	interval, capacity uint64
	buckets            [1024][8]bucket
	seed               maphash.Seed
}

type bucket struct {
	client uint64 // a hash: clients with the same one share a bucket
	fullAt uint64 // what is full is as good as new
}

func parse(config string) (*limiter, error) {
	burst, rate, _ := strings.Cut(strings.TrimSuffix(config, "\n"), " ")
	requests, seconds, _ := strings.Cut(rate, "/")
	var numbers [3]uint64
	for i, number := range []struct {
		text string
		most uint64
	}{{burst, 100_000}, {requests, 1_000_000}, {seconds, 86_400}} {
		value, err := strconv.ParseUint(number.text, 10, 64)
		if err != nil || value < 1 || value > number.most {
			return nil, errors.New("the configuration is not `BURST REQUESTS/SECONDS`")
		}
		numbers[i] = value
	}
	interval := numbers[2] * uint64(time.Second) / numbers[1]
	return &limiter{interval: interval, capacity: numbers[0] * interval, seed: maphash.MakeSeed()}, nil
}

// take takes a token. If there is none, it returns the number of seconds until there is one.
func (l *limiter) take(client string, since time.Duration) uint64 {
	now, bucket := uint64(since), l.bucket(client)
	fullAt := max(bucket.fullAt, now) + l.interval
	if fullAt-now > l.capacity {
		return (fullAt - now - l.capacity + uint64(time.Second) - 1) / uint64(time.Second)
	}
	bucket.fullAt = fullAt
	return 0
}

func (l *limiter) bucket(client string) *bucket {
	hash := maphash.String(l.seed, client)
	set := &l.buckets[hash%uint64(len(l.buckets))]
	next := &set[0]
	for i := range set {
		if set[i].client == hash {
			return &set[i]
		}
		if set[i].fullAt < next.fullAt {
			next = &set[i]
		}
	}
	*next = bucket{client: hash}
	return next
}

// client returns what identifies a client: an IPv4 address, or the first 64 bits of an IPv6 address, since a client has
// at least all addresses with these. An IPv4 address may be written as an IPv6 address.
func client(source string) string {
	address, err := netip.ParseAddr(source)
	if with, withErr := netip.ParseAddrPort(source); withErr == nil {
		address, err = with.Addr(), nil
	}
	if err != nil {
		// Without what may be a port.
		if port := strings.LastIndexByte(source, ':'); port >= 0 {
			return source[:port]
		}
		return source
	}
	address = address.Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	return netip.PrefixFrom(address, 64).Masked().String()
}
