package mistletoe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

type input struct {
	Name     string         `json:"name"`
	Replicas int            `json:"replicas"`
	Debug    bool           `json:"debug"`
	Image    *image         `json:"image"`
	Labels   []string       `json:"labels"`
	More     map[string]any `json:"more"`
}

type image struct {
	Tag string `json:"tag"`
}

// Calls a package as a host does.
func call(t *testing.T, generate func(input) (*Files, error), text string) result {
	t.Helper()
	Package(Info{}, generate)
	return read(t, respond(text))
}

type result struct {
	Result  string            `yaml:"result"`
	Message string            `yaml:"message"`
	Files   map[string]string `yaml:"files"`
}

func read(t *testing.T, output string) result {
	t.Helper()
	var document struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
		Data       result `yaml:"data"`
	}
	if err := yaml.Load([]byte(output), &document, yaml.WithKnownFields()); err != nil {
		t.Fatalf("%v in\n%s", err, output)
	}
	if document.APIVersion != apiVersion || document.Kind != "MistResult" {
		t.Fatalf("no MistResult:\n%s", output)
	}
	return document.Data
}

func TestOutputIsTheDocument(t *testing.T) {
	Package(Info{}, func(in input) (*Files, error) {
		return new(Files).
			YAML("a.yaml", map[string]any{"kind": "Namespace", "metadata": map[string]any{"name": in.Name}}, image{"1.10"}).
			Text("b.txt", "two\nlines").
			Message("on"), nil
	})
	const expected = `apiVersion: mistletoe.dev/v1alpha1
kind: MistResult
data:
  result: Ok
  message: "on"
  files:
    a.yaml: |
      kind: Namespace
      metadata:
        name: web
      ---
      tag: "1.10"
    b.txt: |-
      two
      lines
`
	if output := respond("data:\n  name: web\n"); output != expected {
		t.Errorf("found\n%s", output)
	}
	for _, none := range []*Files{nil, {}} {
		Package(Info{}, func(struct{}) (*Files, error) { return none, nil })
		if output := respond("data: {}"); output != expected[:strings.Index(expected, "  message")] {
			t.Errorf("found\n%s", output)
		}
	}
}

func TestValuesAreDecoded(t *testing.T) {
	var seen input
	generate := func(in input) (*Files, error) { seen = in; return nil, nil }
	text := `apiVersion: mistletoe.dev/v1alpha1
kind: MistInput
data:
  name: yes
  replicas: 0o17
  debug: true
  image: {tag: "1.10"}
  labels: [on, 2001-01-01, '7', 1_000, 0b1, 12:30, =]
  unknown: 1
  more: {int: 007, hex: 0x1F, large: 123456789012345678901, exact: 1.50, short: .5, e: 1e3, null: ~, <<: {a: b}}
`
	if result := call(t, generate, text); result.Result != "Ok" {
		t.Fatal(result.Message)
	}
	found, _ := json.Marshal(seen)
	const expected = `{"name":"yes","replicas":15,"debug":true,"image":{"tag":"1.10"},` +
		`"labels":["on","2001-01-01","7","1_000","0b1","12:30","="],"more":{"\u003c\u003c":{"a":"b"},"e":1e3,` +
		`"exact":1.50,"hex":31,"int":7,"large":123456789012345678901,"null":null,"short":0.5}}`
	if string(found) != expected {
		t.Errorf("found\n%s\nexpected\n%s", found, expected)
	}
}

func TestUnfitInputsAreErrors(t *testing.T) {
	called := false
	generate := func(input) (*Files, error) { called = true; return nil, nil }
	laughs := "a0: &a0 [x]\n"
	for i := range 30 {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for _, test := range []struct{ input, message string }{
		{"", "the input has no mapping `data`"},
		{"data:\n", "the input has no mapping `data`"},
		{"data: [1]", "the input has no mapping `data`"},
		{"- data: {}", "the input has no mapping `data`"},
		{"data: {replicas: two}", "data.replicas: expected an integer, found a string"},
		{"data: {replicas: 1.5}", "data.replicas: expected an integer, found the number 1.5"},
		{"data: {replicas: 9999999999999999999}", "data.replicas: expected an integer, found the number 9999999999999999999"},
		{"data: {image: {tag: 1.10}}", "data.image.tag: expected a string, found a number"},
		{"data: {image: x}", "data.image: expected a mapping, found a string"},
		{"data: {labels: {a: b}}", "data.labels: expected a sequence, found a mapping"},
		{"data: {debug: yes}", "data.debug: expected a boolean, found a string"},
		{"data: {more: {x: .inf}}", "line 1: .inf is not a finite number"},
		{"data: {more: {[a]: b}}", "line 1: a key that is not a scalar"},
		{"data: {}\n---\ndata: {}\n", "the input: more than one document"},
		{"data: {", "the input: "},
		{"data: *x", "the input: "},
		{laughs + "data: {more: {x: *a30}}", "the input"},
	} {
		result := call(t, generate, test.input)
		if result.Result != "Err" || !strings.HasPrefix(result.Message, test.message) {
			t.Errorf("%s: %q", test.input, result)
		}
	}
	if called {
		t.Error("the function was called")
	}
}

func TestErrorsAndPanicsAreResults(t *testing.T) {
	values := []int{1}
	for _, test := range []struct {
		generate func(input) (*Files, error)
		message  string
		code     string // what is in the line that panics
	}{
		{func(input) (*Files, error) { return new(Files).Text("a", ""), errors.New("no: way") }, "no: way", ""},
		{func(input) (*Files, error) { return new(Files).Text("a", "").Text("a", ""), nil }, `"a" is generated twice`, ""},
		{func(input) (*Files, error) { return new(Files).Text("a", "\xff"), nil }, `"a" is not UTF-8`, ""},
		{func(input) (*Files, error) { return nil, errors.New("bad \xff") }, "bad \uFFFD", ""},
		{func(input) (*Files, error) { panic("b\xffd\n") }, "panicked at mistletoe_test.go:LINE: b\uFFFDd\n", `panic("b`},
		{
			func(input) (*Files, error) { return new(Files).YAML("a", func() {}), nil },
			"a: json: unsupported type: func()", "",
		},
		{
			func(input) (*Files, error) { panic("on purpose") },
			"panicked at mistletoe_test.go:LINE: on purpose", `panic("on`,
		},
		{
			func(input) (*Files, error) { panic(errors.New("as well")) },
			"panicked at mistletoe_test.go:LINE: as well", `panic(errors`,
		},
		{
			func(in input) (*Files, error) { return nil, fmt.Errorf("%d", values[in.Replicas]) },
			"panicked at mistletoe_test.go:LINE: runtime error: index out of range [1] with length 1", `values[in.`,
		},
		{
			func(in input) (*Files, error) { return nil, errors.New(in.Image.Tag) },
			"panicked at mistletoe_test.go:LINE: runtime error: invalid memory address or nil pointer dereference", `in.Image`,
		},
	} {
		result := call(t, test.generate, "data: {replicas: 1}")
		expected := strings.ReplaceAll(test.message, "LINE", fmt.Sprint(lineOf(t, test.code)))
		if result.Result != "Err" || result.Message != expected || result.Files != nil {
			t.Errorf("expected %s, found %q", expected, result)
		}
	}
}

// Returns the first line of this file that has the text.
func lineOf(t *testing.T, text string) int {
	t.Helper()
	source, err := os.ReadFile("mistletoe_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return 1 + strings.Count(string(source[:bytes.Index(source, []byte(text))]), "\n")
}

func TestInfoIsTheDocument(t *testing.T) {
	schema := "{\"type\": \"object\", \"required\": [\"name\"]}"
	info := Info{
		Name:        "example",
		Labels:      map[string]string{"b": "true", "a": "1"},
		Defaults:    struct{ Replicas, Name any }{2, nil},
		InputSchema: schema,
	}
	const expected = `apiVersion: mistletoe.dev/v1alpha1
kind: MistPackage
metadata:
  name: example
  labels:
    a: "1"
    b: "true"
defaults:
  Replicas: 2
  Name: null
inputSchema: {"type": "object", "required": ["name"]}
`
	Package(info, func(input) (*Files, error) { return nil, nil })
	if document := describe(); document != expected {
		t.Errorf("found\n%s", document)
	}
	info = Info{Defaults: []byte("a: b # c\n")}
	const defaults = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\n" +
		"metadata:\n  name: go\ndefaults:\n  a: b # c\n"
	if document := info.document(); document != defaults {
		t.Errorf("found\n%s", document)
	}
}

func TestRawPassesStrings(t *testing.T) {
	Raw("anything", strings.ToUpper)
	if describe() != "anything" || respond("text") != "TEXT" {
		t.Error("the strings are not the function's")
	}
}

// Strings survive, also for readers of YAML 1.1.
func TestStringsSurvive(t *testing.T) {
	texts := []string{
		"", " ", "\n", "\n\n", "a\n\n\n", "\na", " a\nb", "a\n b", "a\n\tb", "\ta\nb", "a: b", "a #b", "#", "- a", "null",
		"~", "Yes", "n", "0777", "1_000", "12:30", "1e3", ".5", "=", "<<", "2001-01-01", "'", "\"", "\\", "|", ">", "a\r\nb",
		"a\rb", "\u0085", "a\u2028b\nc", "\ufeff", "\x00", "\x7f", "é\nü", "🎄", "---\na", "...", "a\n---\nb\n", "a ",
		"a \nb ", "a\n ", "a\n  \n", "%", "@a", "&a", "*a", "!a", "{a", "]", ",", "?", "a:", "a:\n",
	}
	const alphabet = "ab:#-'\"\\ \n\n\t\r|>%@&*!{}[],?~=0.1é\u2028\u00a0"
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var text strings.Builder
		for range random.IntN(12) {
			runes := []rune(alphabet)
			text.WriteRune(runes[random.IntN(len(runes))])
		}
		texts = append(texts, text.String())
	}
	for _, text := range texts {
		output := new(Files).Text("a", text).YAML("b", map[string]string{"x": text}).document()
		result := read(t, output)
		if found := result.Files["a"]; found != text {
			t.Errorf("%q became %q in\n%s", text, found, output)
		}
		var value map[string]any
		if err := yaml.Load([]byte(result.Files["b"]), &value); err != nil || value["x"] != text {
			t.Errorf("%q became %q: %v", text, value["x"], err)
		}
	}
	for _, word := range []string{"yes", "No", "ON", "off", "y", "N", "0777", "1_000", "12:30", "1e3", "1.10"} {
		file, _ := new(Files).YAML("b", word).Content("b")
		if file != fmt.Sprintf("%q\n", word) {
			t.Errorf("a reader of YAML 1.1 takes %s for something else", file)
		}
	}
}

func TestMessagesAreUTF8(t *testing.T) {
	output := new(Files).Message("bad \xff").document()
	if result := read(t, output); result.Message != "bad \uFFFD" || strings.Contains(output, "!!binary") {
		t.Errorf("a message became %q in\n%s", result.Message, output)
	}
}

func TestStandardLoggerHasNoTime(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)
	call(t, func(input) (*Files, error) { log.Print("a line"); return nil, nil }, "data: {}")
	if out.String() != "a line\n" {
		t.Errorf("found %q", out.String())
	}
}
