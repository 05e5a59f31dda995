package scheduler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The value of a field: bytes, or a number.
type value struct {
	bytes   []byte
	number  uint64
	isBytes bool
}

var errCutOff = errors.New("the object is malformed: it is cut off")

// Calls a function with each field of a message. Every length and number is checked: a message that is cut off, or no
// message at all, is an error.
func fields(message []byte, see func(number uint64, v value) error) error {
	for len(message) > 0 {
		tag, rest, err := varint(message)
		if err != nil {
			return err
		}
		if tag>>3 == 0 || tag>>3 > 1<<32-1 {
			return errors.New("the object is malformed: the number of a field is out of range")
		}
		var v value
		length := uint64(0)
		switch tag & 7 {
		case 0:
			v.number, rest, err = varint(rest)
		case 1:
			length = 8
		case 2:
			length, rest, err = varint(rest)
			v.isBytes = true
		case 5:
			length = 4
		default:
			err = errors.New("the object is malformed: the type of a field is unknown")
		}
		if err != nil {
			return err
		}
		if length > uint64(len(rest)) {
			return errCutOff
		}
		v.bytes, message = rest[:length], rest[length:]
		// Kubernetes uses no numbers of fixed width.
		if kind := tag & 7; kind == 1 || kind == 5 {
			continue
		}
		if err := see(tag>>3, v); err != nil {
			return err
		}
	}
	return nil
}

func varint(message []byte) (uint64, []byte, error) {
	number, length := binary.Uvarint(message)
	switch {
	case length > 0:
		return number, message[length:], nil
	case length == 0:
		return 0, nil, errCutOff
	default:
		return 0, nil, errors.New("the object is malformed: a number is longer than 64 bits")
	}
}

// A function that takes the value of a field.
type setter func(v value) error

// Calls for each field of a message the function that belongs to its number.
func decode(message []byte, setters map[uint64]setter) error {
	return fields(message, func(number uint64, v value) error {
		set := setters[number]
		if set == nil {
			return nil
		}
		err := set(v)
		if problem, ok := err.(problem); ok {
			return fmt.Errorf("the object is malformed: the field %d %s", number, string(problem))
		}
		return err
	})
}

// What is wrong with the value of a field.
type problem string

func (p problem) Error() string { return string(p) }

func setText(to *string) setter {
	return func(v value) error {
		switch {
		case !v.isBytes:
			return problem("is a number")
		case !utf8.Valid(v.bytes):
			return problem("is not UTF-8")
		}
		*to = string(v.bytes)
		return nil
	}
}

func setNumber(set func(number uint64)) setter {
	return func(v value) error {
		if v.isBytes {
			return problem("is not a number")
		}
		set(v.number)
		return nil
	}
}

func setMessage(read func(message []byte) error) setter {
	return func(v value) error {
		if !v.isBytes {
			return problem("is a number")
		}
		return read(v.bytes)
	}
}

func addText(to *[]string) setter {
	return func(v value) error {
		var text string
		if err := setText(&text)(v); err != nil {
			return err
		}
		*to = append(*to, text)
		return nil
	}
}

// Adds what a function reads from a message.
func add[T any](to *[]T, read func(message []byte, item *T) error) setter {
	return setMessage(func(message []byte) error {
		var item T
		if err := read(message, &item); err != nil {
			return err
		}
		*to = append(*to, item)
		return nil
	})
}

// Adds the entry of a map.
func addEntry(to *map[string]string, value func(to *string) setter) setter {
	return setMessage(func(message []byte) error {
		var key, text string
		if err := decode(message, map[uint64]setter{1: setText(&key), 2: value(&text)}); err != nil {
			return err
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[key] = text
		return nil
	})
}

// A quantity is a message with its text.
func setQuantity(to *string) setter {
	return setMessage(func(message []byte) error { return decode(message, map[uint64]setter{1: setText(to)}) })
}
