// Package mistletoe makes a Mistletoe package of a function.
//
// The function takes the values that a user sets, decoded like JSON into a type of the author's, and returns files or
// an error:
//
//	type Input struct {
//		Name string `json:"name"`
//	}
//
//	func init() { mistletoe.Package(mistletoe.Info{}, generate) }
//
//	func generate(in Input) (*mistletoe.Files, error) {
//		if in.Name == "" {
//			return nil, errors.New("name is empty")
//		}
//		return new(mistletoe.Files).Text("greeting.txt", "hello, "+in.Name+"\n"), nil
//	}
//
//	func main() {}
//
// Built as a reactor, that is a whole package:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o package.wasm .
//
// An error that the function returns, values that do not fit its input type, and a panic become a MistResult with
// `result: Err`. What a package logs with [log], [log/slog] or to [os.Stderr] goes to the host's log.
//
// The function is a plain one: tests call it natively, without WebAssembly. A package that imports this one builds for
// every platform; the exports are only in modules for wasip1.
package mistletoe

import (
	"fmt"
	"log"
	"maps"
	"path"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const apiVersion = "mistletoe.dev/v1alpha1"

// Info describes a package to its users.
type Info struct {
	// Name is the package's name. If it is empty, it is the last element of the main module's path.
	Name string
	// Labels are optional.
	Labels map[string]string
	// Defaults are the values that the host uses where the user sets none: a mapping, as text (YAML or JSON, a string or
	// a []byte), or as a value that becomes one by the rules of [Files.YAML]. Optional.
	Defaults any
	// InputSchema is a JSON Schema that describes the input, in the same forms. Optional.
	InputSchema any
}

// The registered package.
var (
	describe = func() string { panic("no package: call mistletoe.Package in an init function") }
	respond  = func(string) string { panic("no package: call mistletoe.Package in an init function") }
)

// Package makes the function the program's package. Call it once, in an init function: a host does not call main.
//
// The function receives the mapping `data` of the MistInput, decoded as [encoding/json] does, so that the tags of In
// are `json` tags. Unknown values are ignored. A number in a field of type any is a [encoding/json.Number].
//
// Package removes the time from the lines of the standard logger ([log.SetFlags]): the host's log has its own.
func Package[In any](info Info, generate func(In) (*Files, error)) {
	log.SetFlags(0)
	describe = info.document
	respond = func(input string) (output string) {
		defer func() {
			if value := recover(); value != nil {
				output = failure(fmt.Sprintf("panicked at %s: %v", panicked(), value))
			}
		}()
		var in In
		if err := decodeInput(input, &in); err != nil {
			return failure(err.Error())
		}
		files, err := generate(in)
		if err != nil {
			return failure(err.Error())
		}
		return files.document()
	}
}

// Raw makes a function from a string to a string the program's package, for hosts that exchange something else than
// Mistletoe's documents. info is returned as the description. A panic is a failure of the instance.
func Raw(info string, generate func(input string) string) {
	log.SetFlags(0)
	describe = func() string { return info }
	respond = generate
}

// Returns the MistPackage. It panics if the author's values are no YAML.
func (info Info) document() string {
	name := info.Name
	if build, ok := debug.ReadBuildInfo(); name == "" && ok {
		name = path.Base(build.Main.Path)
	}
	metadata := mapping().with("name", text(name))
	if len(info.Labels) > 0 {
		labels := mapping()
		for _, label := range slices.Sorted(maps.Keys(info.Labels)) {
			labels.with(label, text(info.Labels[label]))
		}
		metadata.with("labels", labels.node())
	}
	document := header("MistPackage").with("metadata", metadata.node())
	describing(document, "defaults", info.Defaults)
	describing(document, "inputSchema", info.InputSchema)
	return write(document.node())
}

// Adds a part of the description: parsed if it is a text, encoded otherwise.
func describing(document *fields, field string, value any) {
	var node *yaml.Node
	var err error
	switch value := value.(type) {
	case nil:
		return
	case string:
		node, err = parse([]byte(value))
	case []byte:
		node, err = parse(value)
	default:
		node, err = encode(value)
	}
	if err != nil {
		panic(fmt.Sprintf("mistletoe.Info: %s: %v", field, err))
	}
	document.with(field, node)
}

// Returns a MistResult without files.
func failure(message string) string {
	data := mapping().with("result", text("Err")).with("message", text(message))
	return write(header("MistResult").with("data", data.node()).node())
}

// Returns the file and line of the code that panicked. Only a deferred function that recovers may call it.
func panicked() string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	for inPanic := false; ; {
		frame, more := frames.Next()
		// The runtime's own functions are between the panic and the code at fault.
		switch inRuntime := strings.HasPrefix(frame.Function, "runtime."); {
		case frame.Function == "runtime.gopanic":
			inPanic = true
		case inPanic && !inRuntime:
			return fmt.Sprintf("%s:%d", path.Base(frame.File), frame.Line)
		}
		if !more {
			return "an unknown line"
		}
	}
}
