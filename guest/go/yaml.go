package mistletoe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// ------------------------------------------------------------------------------------------------------------ reading

// The most nodes that an input may have, copies through aliases included. It is the limit of the host's own reader.
const maxNodes = 1_000_000

// Decodes the mapping `data` of a MistInput. Errors name the value by its path.
func decodeInput(input string, into any) error {
	document, err := parse([]byte(input))
	if err != nil {
		return fmt.Errorf("the input: %w", err)
	}
	data := child(document, "data")
	if data == nil || data.Kind != yaml.MappingNode {
		return errors.New("the input has no mapping `data`")
	}
	budget := maxNodes
	text, err := appendJSON(nil, data, &budget)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(into)
	if mismatch := (*json.UnmarshalTypeError)(nil); errors.As(err, &mismatch) {
		place := strings.TrimSuffix("data."+mismatch.Field, ".")
		return fmt.Errorf("%s: expected %s, found %s", place, expected(mismatch.Type), found(mismatch.Value))
	}
	return err
}

// Returns what YAML calls the values of a type.
func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "an integer"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a positive integer"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Array, reflect.Slice:
		return "a sequence"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	default:
		return t.String()
	}
}

// Returns what YAML calls a value that encoding/json describes.
func found(json string) string {
	switch json {
	case "object":
		return "a mapping"
	case "array":
		return "a sequence"
	case "bool":
		return "a boolean"
	}
	if number, ok := strings.CutPrefix(json, "number "); ok {
		return "the number " + number
	}
	return "a " + json
}

// Parses one document. Null stands for an empty one.
func parse(text []byte) (*yaml.Node, error) {
	var documents []yaml.Node
	if err := yaml.Load(text, &documents, yaml.WithAllDocuments()); err != nil {
		return nil, err
	}
	switch len(documents) {
	case 0:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	case 1:
		node := &documents[0]
		for node.Kind == yaml.DocumentNode {
			node = node.Content[0]
		}
		return node, nil
	default:
		return nil, errors.New("more than one document")
	}
}

// Returns the value of a key, or nil.
func child(node *yaml.Node, key string) *yaml.Node {
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key && node.Content[i].Kind == yaml.ScalarNode {
				return resolve(node.Content[i+1])
			}
		}
	}
	return nil
}

func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// Appends a value as JSON.
func appendJSON(out []byte, node *yaml.Node, budget *int) ([]byte, error) {
	if *budget--; *budget < 0 {
		return nil, fmt.Errorf("the input has more than %d nodes", maxNodes)
	}
	node = resolve(node)
	var err error
	switch node.Kind {
	case yaml.MappingNode:
		out = append(out, '{')
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := resolve(node.Content[i])
			if key.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: a key that is not a scalar", key.Line)
			}
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendString(out, key.Value), ':')
			if out, err = appendJSON(out, node.Content[i+1], budget); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	case yaml.SequenceNode:
		out = append(out, '[')
		for i, item := range node.Content {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = appendJSON(out, item, budget); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	default:
		return appendScalar(out, node)
	}
}

func appendString(out []byte, text string) []byte {
	encoded, _ := json.Marshal(text) // a string is always JSON
	return append(out, encoded...)
}

// YAML 1.2's core schema.
var (
	integer  = regexp.MustCompile(`^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$`)
	float    = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	infinite = regexp.MustCompile(`^([-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN)$`)
)

// Appends a scalar as JSON, by YAML 1.2's core schema. (The YAML library's own rules have much of YAML 1.1.)
func appendScalar(out []byte, node *yaml.Node) ([]byte, error) {
	value := node.Value
	if node.Style&^yaml.TaggedStyle != 0 || node.Style&yaml.TaggedStyle != 0 && node.ShortTag() == "!!str" {
		return appendString(out, value), nil
	}
	switch value {
	case "", "~", "null", "Null", "NULL":
		return append(out, "null"...), nil
	case "true", "True", "TRUE":
		return append(out, "true"...), nil
	case "false", "False", "FALSE":
		return append(out, "false"...), nil
	}
	switch {
	case integer.MatchString(value):
		digits, base := value, 10
		switch {
		case strings.HasPrefix(value, "0o"):
			digits, base = value[2:], 8
		case strings.HasPrefix(value, "0x"):
			digits, base = value[2:], 16
		}
		number, _ := new(big.Int).SetString(digits, base) // the pattern allows only digits of the base
		return number.Append(out, 10), nil
	case float.MatchString(value):
		if json.Valid([]byte(value)) {
			return append(out, value...), nil
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: the number %s is too large", node.Line, value)
		}
		return strconv.AppendFloat(out, number, 'g', -1, 64), nil
	case infinite.MatchString(value):
		return nil, fmt.Errorf("line %d: %s is not a finite number", node.Line, value)
	}
	return appendString(out, value), nil
}

// ------------------------------------------------------------------------------------------------------------ writing

// An ordered mapping under construction.
type fields yaml.Node

func mapping() *fields { return &fields{Kind: yaml.MappingNode} }

func (f *fields) with(key string, value *yaml.Node) *fields {
	f.Content = append(f.Content, text(key), value)
	return f
}

func (f *fields) node() *yaml.Node { return (*yaml.Node)(f) }

func header(kind string) *fields {
	return mapping().with("apiVersion", text(apiVersion)).with("kind", text(kind))
}

// Returns the YAML text of one document.
func write(node *yaml.Node) string {
	// Without a width, lines are not folded: readers differ in what they make of folded lines.
	out, err := yaml.Dump(node, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		panic(err) // the nodes are made here or were parsed
	}
	return string(out)
}

// Returns a string's node, in a style that readers of YAML 1.1 and 1.2 take for the same string.
//
// The replacement character stands for bytes that are not UTF-8: the library would write such a string as `!!binary`,
// which hosts refuse.
func text(value string) *yaml.Node {
	value = strings.ToValidUTF8(value, "\uFFFD")
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Style: style(value)}
}

// What starts with a letter or a slash is a string, except for these words. The library quotes what is no plain scalar.
var (
	plain = regexp.MustCompile(`^[A-Za-z/]`)
	words = regexp.MustCompile(`^(?i:y|yes|n|no|on|off|true|false|null)$`)
)

func style(value string) yaml.Style {
	isLine := !strings.Contains(value, "\n")
	switch {
	case isLine && plain.MatchString(value) && !words.MatchString(value):
		return 0
	// A literal block keeps all but characters that it cannot hold, and blanks at its start need an indicator that
	// readers have taken for different things.
	case !isLine && !strings.ContainsFunc(value, unprintable) && !strings.ContainsAny(value[:1], " \t\n"):
		return yaml.LiteralStyle
	default:
		return yaml.DoubleQuotedStyle
	}
}

func unprintable(c rune) bool {
	return c != '\n' && c != '\t' && !unicode.IsPrint(c)
}

// Encodes a value like encoding/json, which keeps the order of a struct's fields.
func encode(value any) (*yaml.Node, error) {
	out, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	decoder.UseNumber()
	return decode(decoder)
}

// Reads one JSON value.
func decode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.SequenceNode}
		if token == '{' {
			node.Kind = yaml.MappingNode
		}
		// A key is a token like any other.
		for decoder.More() {
			item, err := decode(decoder)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, item)
		}
		if len(node.Content) == 0 {
			node.Style = yaml.FlowStyle
		}
		_, err := decoder.Token()
		return node, err
	case string:
		return text(token), nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: token.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.FormatBool(token)}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: "null"}, nil
	}
}
