package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type object interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// objects writes generated objects, and what Go makes of these and of the objects in the directory.
//
// A line of NAME.jsonl is an object, and NAME.pb has the messages in order: four bytes of length, little endian, and
// the bytes.
func objects(directory string) error {
	kinds := map[string]func() object{
		"pod":  func() object { return new(corev1.Pod) },
		"node": func() object { return new(corev1.Node) },
	}
	for kind, create := range kinds {
		files := map[string][][]byte{}
		filler := filler{random: rand.New(rand.NewPCG(1, 2))}
		for i := range 24 {
			// The first object has every field, the second has none.
			filler.share = []float64{1, 0, 0.1, 0.3, 0.6}[min(i, 2+i%3)]
			value := create()
			filler.fill(reflect.ValueOf(value).Elem())
			line, err := json.Marshal(value)
			if err != nil {
				return err
			}
			files[kind+"-generated"] = append(files[kind+"-generated"], line)
		}
		var lines bytes.Buffer
		for _, line := range files[kind+"-generated"] {
			lines.Write(append(line, '\n'))
		}
		if err := os.WriteFile(filepath.Join(directory, kind+"-generated.jsonl"), lines.Bytes(), 0o644); err != nil {
			return err
		}
		written, err := filepath.Glob(filepath.Join(directory, kind+"*.json"))
		if err != nil {
			return err
		}
		for _, file := range written {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			files[strings.TrimSuffix(filepath.Base(file), ".json")] = [][]byte{text}
		}
		for name, texts := range files {
			var out []byte
			for _, text := range texts {
				message, err := marshal(text, create)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				out = binary.LittleEndian.AppendUint32(out, uint32(len(message)))
				out = append(out, message...)
			}
			if err := os.WriteFile(filepath.Join(directory, name+".pb"), out, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// marshal returns an object as Go encodes it, and checks that it is the same object again.
func marshal(text []byte, create func() object) ([]byte, error) {
	value, again := create(), create()
	if err := json.Unmarshal(text, value); err != nil {
		return nil, err
	}
	message, err := value.Marshal()
	if err != nil {
		return nil, err
	}
	if err := again.Unmarshal(message); err != nil {
		return nil, err
	}
	if !equality.Semantic.DeepEqual(withoutType(value), again) {
		return nil, fmt.Errorf("the object is another one after encoding")
	}
	return message, nil
}

// withoutType removes apiVersion and kind, which are not in the message.
func withoutType(value object) object {
	reflect.ValueOf(value).Elem().FieldByName("TypeMeta").SetZero()
	return value
}

// filler fills objects with values, a share of their fields.
type filler struct {
	random *rand.Rand
	share  float64
	count  int
}

var (
	texts      = []string{"", "a", "a/b:c", "ä € 🦀", "\"\\\n\t\u0001<&>", strings.Repeat("long ", 60)}
	quantities = []string{"0", "1", "500m", "128Mi", "1Gi", "16", "3900m", "1e3", "110", "-5", "100n"}
	numbers    = []int64{0, 1, -1, 127, 128, 300, 1<<31 - 1, -1 << 31}
)

func (f *filler) fill(value reflect.Value) {
	f.count++
	switch out := value.Addr().Interface().(type) {
	case *resource.Quantity:
		*out = resource.MustParse(pick(f, quantities))
		return
	case *intstr.IntOrString:
		*out = pick(f, []intstr.IntOrString{intstr.FromInt32(8080), intstr.FromString("http"), {}, intstr.FromInt32(-1)})
		return
	case *metav1.Time:
		*out = metav1.Unix(pick(f, []int64{0, 1, 1760000000, -1, -2208988800, 253402300799, 951782400}), 0)
		return
	case *metav1.FieldsV1:
		out.SetRawString(pick(f, []string{`{}`, `{"f:metadata":{"f:labels":{".":{},"f:app":{}}}}`}))
		return
	case *metav1.TypeMeta:
		*out = metav1.TypeMeta{Kind: "Kind", APIVersion: "v1"}
		return
	}
	switch value.Kind() {
	case reflect.String:
		value.SetString(pick(f, texts))
	case reflect.Bool:
		value.SetBool(f.random.IntN(2) == 0)
	case reflect.Int32:
		value.SetInt(pick(f, numbers))
	case reflect.Int64:
		value.SetInt(pick(f, append(numbers, 1<<63-1, -1<<63)))
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		f.fill(value.Elem())
	case reflect.Slice:
		length := f.length()
		value.Set(reflect.MakeSlice(value.Type(), length, length))
		for i := range length {
			f.fill(value.Index(i))
		}
	case reflect.Map:
		value.Set(reflect.MakeMap(value.Type()))
		for range f.length() {
			item := reflect.New(value.Type().Elem()).Elem()
			f.fill(item)
			key := reflect.New(value.Type().Key()).Elem()
			key.SetString(fmt.Sprintf("%skey%d", pick(f, texts[:4]), f.count))
			value.SetMapIndex(key, item)
		}
	case reflect.Struct:
		for i := range value.NumField() {
			// What is inlined has fields of the same JSON object.
			if value.Type().Field(i).Anonymous || f.random.Float64() < f.share {
				f.fill(value.Field(i))
			}
		}
	default:
		panic(fmt.Sprintf("no value for %s", value.Type()))
	}
}

// length returns the length of a list or map: one if every field is set, so that the object stays small.
func (f *filler) length() int {
	if f.share == 1 {
		return 1
	}
	return f.random.IntN(4)
}

func pick[T any](f *filler, of []T) T {
	return of[f.random.IntN(len(of))]
}
