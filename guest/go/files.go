package mistletoe

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Files is what a package generates, in the order in which it is added. The zero value has no files.
//
// The methods return their receiver, so that calls can be chained. The first failure of a chain becomes the package's
// error ([Files.Err]).
type Files struct {
	names    []string
	contents map[string]string
	message  *string
	err      error
}

// YAML adds a file with one or more YAML documents.
//
// A value is encoded as [encoding/json] does, with `json` tags, and written as YAML: the types of Kubernetes, maps,
// slices and the author's own structs all work. Fields of structs keep their order, and the keys of maps are sorted.
func (f *Files) YAML(name string, documents ...any) *Files {
	texts := make([]string, len(documents))
	for i, document := range documents {
		node, err := encode(document)
		if err != nil {
			return f.fail(fmt.Errorf("%s: %w", name, err))
		}
		texts[i] = write(node)
	}
	return f.Text(name, strings.Join(texts, "---\n"))
}

// Text adds a file with this content, which must be UTF-8.
func (f *Files) Text(name, content string) *Files {
	if !utf8.ValidString(name) || !utf8.ValidString(content) {
		return f.fail(fmt.Errorf("%q is not UTF-8", name))
	}
	if _, ok := f.contents[name]; ok {
		return f.fail(fmt.Errorf("%q is generated twice", name))
	}
	if f.contents == nil {
		f.contents = map[string]string{}
	}
	f.names = append(f.names, name)
	f.contents[name] = content
	return f
}

// Message sets the text that the host shows to the user besides the files.
func (f *Files) Message(message string) *Files {
	f.message = &message
	return f
}

// Content returns the content of a file, for tests, and whether there is such a file.
func (f *Files) Content(name string) (string, bool) {
	content, ok := f.contents[name]
	return content, ok
}

// Err returns the first failure of the methods that add files. The package fails with it.
func (f *Files) Err() error { return f.err }

func (f *Files) fail(err error) *Files {
	if f.err == nil {
		f.err = err
	}
	return f
}

// Returns the MistResult. A nil pointer has no files.
func (f *Files) document() string {
	data := mapping().with("result", text("Ok"))
	if f != nil {
		if f.err != nil {
			return failure(f.err.Error())
		}
		if f.message != nil {
			data.with("message", text(*f.message))
		}
		if len(f.names) > 0 {
			files := mapping()
			for _, name := range f.names {
				files.with(name, text(f.contents[name]))
			}
			data.with("files", files.node())
		}
	}
	return write(header("MistResult").with("data", data.node()).node())
}
