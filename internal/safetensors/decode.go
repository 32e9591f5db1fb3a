package safetensors

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

const metadataKey = "__metadata__"

func quote(name string) string { return strconv.Quote(name) }

// decode reads the JSON object. jsontext refuses duplicate names and invalid UTF-8 by itself.
func decode(text []byte) (*Header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, fault.Corrupt("", "header does not begin with '{'")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	h := &Header{}
	if _, err := d.ReadToken(); err != nil {
		return nil, jsonError(d, err)
	}
	for d.PeekKind() != '}' {
		key, err := d.ReadToken()
		if err != nil {
			return nil, jsonError(d, err)
		}
		if name := key.String(); name == metadataKey {
			h.Metadata, err = decodeMetadata(d)
		} else if len(h.Tensors) == MaxTensors {
			return nil, fault.Unsupported("", "header of more than %d tensors", MaxTensors)
		} else {
			t := Tensor{Name: name}
			err = decodeTensor(d, &t)
			h.Tensors = append(h.Tensors, t)
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, jsonError(d, err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fault.Corrupt("", "text follows the header's JSON object at byte %d", d.InputOffset())
	}
	return h, nil
}

func jsonError(d *jsontext.Decoder, err error) error {
	return &fault.Error{Kind: fault.ErrCorrupt, What: "header is not valid JSON near byte " + strconv.FormatInt(d.InputOffset(), 10), Err: err}
}

// nextKind reads the token that begins a value.
func nextKind(d *jsontext.Decoder) (jsontext.Kind, error) {
	t, err := d.ReadToken()
	if err != nil {
		return 0, jsonError(d, err)
	}
	return t.Kind(), nil
}

func decodeMetadata(d *jsontext.Decoder) (map[string]string, error) {
	if k, err := nextKind(d); err != nil {
		return nil, err
	} else if k != '{' {
		return nil, fault.Corrupt("", "%s is %s, an object of strings was expected", metadataKey, KindName(k))
	}
	m := map[string]string{}
	for d.PeekKind() != '}' {
		key, err := d.ReadToken()
		if err != nil {
			return nil, jsonError(d, err)
		}
		name := key.String()
		value, err := d.ReadToken()
		if err != nil {
			return nil, jsonError(d, err)
		}
		if value.Kind() != '"' {
			return nil, fault.Corrupt("", "%s: %s is %s, a string was expected", metadataKey, quote(name), KindName(value.Kind()))
		}
		m[name] = value.String()
	}
	_, err := d.ReadToken()
	if err != nil {
		return nil, jsonError(d, err)
	}
	return m, nil
}

// decodeTensor reads {"dtype": .., "shape": [..], "data_offsets": [begin, end]}; each key once, no other.
func decodeTensor(d *jsontext.Decoder, t *Tensor) error {
	if k, err := nextKind(d); err != nil {
		return err
	} else if k != '{' {
		return tensorError(t, "entry is %s, an object was expected", KindName(k))
	}
	var offsets []int64
	for d.PeekKind() != '}' {
		key, err := d.ReadToken()
		if err != nil {
			return jsonError(d, err)
		}
		switch name := key.String(); name {
		case "dtype":
			err = decodeDType(d, t)
		case "shape":
			t.Shape, err = decodeInts(d, t, name, maxRank)
		case "data_offsets":
			offsets, err = decodeInts(d, t, name, 2)
		default:
			return tensorError(t, "unknown key %s; dtype, shape and data_offsets were expected", quote(name))
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return jsonError(d, err)
	}
	switch {
	case t.DType == dtype.Invalid:
		return tensorError(t, "dtype is missing")
	case t.Shape == nil:
		return tensorError(t, "shape is missing")
	case len(offsets) != 2:
		return tensorError(t, "data_offsets holds %d numbers, 2 were expected", len(offsets))
	}
	t.Begin, t.End = offsets[0], offsets[1]
	return nil
}

func decodeDType(d *jsontext.Decoder, t *Tensor) error {
	v, err := d.ReadToken()
	if err != nil {
		return jsonError(d, err)
	}
	if v.Kind() != '"' {
		return tensorError(t, "dtype is %s, a string was expected", KindName(v.Kind()))
	}
	var ok bool
	if t.DType, ok = dtype.Parse(v.String()); !ok {
		return tensorError(t, "unknown dtype %s", quote(v.String()))
	}
	return nil
}

// decodeInts reads an array of at most limit non-negative integers that fit an int64.
func decodeInts(d *jsontext.Decoder, t *Tensor, key string, limit int) ([]int64, error) {
	if k, err := nextKind(d); err != nil {
		return nil, err
	} else if k != '[' {
		return nil, tensorError(t, "%s is %s, an array was expected", key, KindName(k))
	}
	list := []int64{}
	for d.PeekKind() != ']' {
		v, err := d.ReadToken()
		if err != nil {
			return nil, jsonError(d, err)
		}
		if v.Kind() != '0' {
			return nil, tensorError(t, "%s holds %s, whole numbers were expected", key, KindName(v.Kind()))
		}
		n, err := strconv.ParseInt(v.String(), 10, 64)
		if err != nil || n < 0 {
			return nil, tensorError(t, "%s holds %s, whole numbers from 0 to 2^63-1 were expected", key, v.String())
		}
		if len(list) == limit {
			return nil, tensorError(t, "%s holds more than %d numbers", key, limit)
		}
		list = append(list, n)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, jsonError(d, err)
	}
	return list, nil
}

// KindName is a JSON value's kind in words.
func KindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "no value"
}
