package safetensors

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

const metadataKey = "__metadata__"

func quote(name string) string { return strconv.Quote(name) }

// decode reads the JSON object. jsontext refuses duplicate names, but slowly, so that check is
// disabled and the names are compared here; if anything is wrong, the header is read again
// strictly, for the error.
func decode(text []byte) (*Header, error) {
	h, err := decodeObject(text, jsontext.AllowDuplicateNames(true))
	if err != nil || repeats(h.Tensors) {
		return decodeObject(text)
	}
	return h, nil
}

// repeats reports whether two tensors have the same name.
func repeats(tensors []Tensor) bool {
	seen := make(map[string]struct{}, len(tensors))
	for i := range tensors {
		seen[tensors[i].Name] = struct{}{}
	}
	return len(seen) < len(tensors)
}

// errRepeats is never shown; see decode.
var errRepeats = errors.New("a name occurs twice")

// decoder reads a header's tokens.
type decoder struct {
	*jsontext.Decoder
	text string  // the header; names are slices of it
	dims []int64 // shapes are slices of it
}

// shortest is the shortest possible entry.
const shortest = `"":{"dtype":"U8","shape":[],"data_offsets":[0,0]}`

func decodeObject(text []byte, o ...jsontext.Options) (*Header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, fault.Corrupt("", "header does not begin with '{'")
	}
	n := min(bytes.Count(text, []byte{'{'}), len(text)/len(shortest)+1, MaxTensors)
	d := &decoder{Decoder: jsontext.NewDecoder(bytes.NewBuffer(text), o...), text: string(text)}
	h := &Header{Tensors: make([]Tensor, 0, n)}
	if _, err := d.ReadToken(); err != nil {
		return nil, d.jsonError(err)
	}
	metadata := false
	for d.PeekKind() != '}' {
		name, err := d.name()
		if err != nil {
			return nil, err
		}
		switch {
		case name == metadataKey && metadata:
			err = errRepeats
		case name == metadataKey:
			metadata = true
			h.Metadata, err = d.metadata()
		case len(h.Tensors) == MaxTensors:
			return nil, fault.Unsupported("", "header of more than %d tensors", MaxTensors)
		default:
			h.Tensors = append(h.Tensors, Tensor{Name: name})
			err = d.tensor(&h.Tensors[len(h.Tensors)-1])
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, d.jsonError(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fault.Corrupt("", "text follows the header's JSON object at byte %d", d.InputOffset())
	}
	keepNames(h.Tensors)
	return h, nil
}

// keepNames copies the names, which are slices of the header's text, into one string of their own,
// because the text is about twice as long and no longer needed.
func keepNames(tensors []Tensor) {
	n := 0
	for i := range tensors {
		n += len(tensors[i].Name)
	}
	var b strings.Builder
	b.Grow(n)
	for i := range tensors {
		b.WriteString(tensors[i].Name)
	}
	all := b.String()
	for i := range tensors {
		n := len(tensors[i].Name)
		tensors[i].Name, all = all[:n], all[n:]
	}
}

// name reads the name of an object's member.
func (d *decoder) name() (string, error) {
	t, err := d.ReadToken()
	if err != nil {
		return "", d.jsonError(err)
	}
	return StringIn(d.text, d.Decoder, t), nil
}

// StringIn returns the unescaped string t, which d has just read. Unless an escape prevents it, the
// result is a slice of text, from whose start d reads.
func StringIn(text string, d *jsontext.Decoder, t jsontext.Token) string {
	before := text[:min(int(d.InputOffset())-1, len(text))]
	if s := before[strings.LastIndexByte(before, '"')+1:]; t.String() == s {
		return s
	}
	return t.String()
}

func (d *decoder) jsonError(err error) error {
	return &fault.Error{Kind: fault.ErrCorrupt, What: "header is not valid JSON near byte " + strconv.FormatInt(d.InputOffset(), 10), Err: err}
}

// nextKind reads the token that begins a value.
func (d *decoder) nextKind() (jsontext.Kind, error) {
	t, err := d.ReadToken()
	if err != nil {
		return 0, d.jsonError(err)
	}
	return t.Kind(), nil
}

func (d *decoder) metadata() (map[string]string, error) {
	if k, err := d.nextKind(); err != nil {
		return nil, err
	} else if k != '{' {
		return nil, fault.Corrupt("", "%s is %s, an object of strings was expected", metadataKey, KindName(k))
	}
	m := map[string]string{}
	for d.PeekKind() != '}' {
		key, err := d.ReadToken()
		if err != nil {
			return nil, d.jsonError(err)
		}
		name := key.String()
		value, err := d.ReadToken()
		if err != nil {
			return nil, d.jsonError(err)
		}
		if value.Kind() != '"' {
			return nil, fault.Corrupt("", "%s: %s is %s, a string was expected", metadataKey, quote(name), KindName(value.Kind()))
		}
		if _, ok := m[name]; ok {
			return nil, errRepeats
		}
		m[name] = value.String()
	}
	_, err := d.ReadToken()
	if err != nil {
		return nil, d.jsonError(err)
	}
	return m, nil
}

// tensor reads {"dtype": .., "shape": [..], "data_offsets": [begin, end]}; with each key once and
// no others.
func (d *decoder) tensor(t *Tensor) error {
	if k, err := d.nextKind(); err != nil {
		return err
	} else if k != '{' {
		return tensorError(t, "entry is %s, an object was expected", KindName(k))
	}
	var room [2]int64
	var offsets []int64
	keys := 0
	for ; d.PeekKind() != '}'; keys++ {
		key, err := d.ReadToken()
		if err != nil {
			return d.jsonError(err)
		}
		switch name := key.String(); name {
		case "dtype":
			err = d.dtype(t)
		case "shape":
			if t.Shape != nil {
				return errRepeats
			}
			// a new slice: growing this one would keep both copies alive
			if cap(d.dims)-len(d.dims) < maxRank {
				d.dims = make([]int64, 0, 1<<10)
			}
			first := len(d.dims)
			d.dims, err = d.ints(d.dims, t, "shape", maxRank)
			t.Shape = d.dims[first:len(d.dims):len(d.dims)]
		case "data_offsets":
			offsets, err = d.ints(room[:0], t, "data_offsets", len(room))
		default:
			return tensorError(t, "unknown key %s; dtype, shape and data_offsets were expected", quote(name))
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return d.jsonError(err)
	}
	switch {
	case t.DType == dtype.Invalid:
		return tensorError(t, "dtype is missing")
	case t.Shape == nil:
		return tensorError(t, "shape is missing")
	case len(offsets) != 2:
		return tensorError(t, "data_offsets holds %d numbers, 2 were expected", len(offsets))
	case keys > 3:
		return errRepeats
	}
	t.Begin, t.End = offsets[0], offsets[1]
	return nil
}

func (d *decoder) dtype(t *Tensor) error {
	v, err := d.ReadToken()
	if err != nil {
		return d.jsonError(err)
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

// ints reads an array of at most limit non-negative integers that fit an int64, and appends them to
// list.
func (d *decoder) ints(list []int64, t *Tensor, key string, limit int) ([]int64, error) {
	if k, err := d.nextKind(); err != nil {
		return list, err
	} else if k != '[' {
		return list, tensorError(t, "%s is %s, an array was expected", key, KindName(k))
	}
	for n := 0; d.PeekKind() != ']'; n++ {
		v, err := d.ReadToken()
		if err != nil {
			return list, d.jsonError(err)
		}
		if v.Kind() != '0' {
			return list, tensorError(t, "%s holds %s, whole numbers were expected", key, KindName(v.Kind()))
		}
		x, err := strconv.ParseInt(v.String(), 10, 64)
		if err != nil || x < 0 {
			return list, tensorError(t, "%s holds %s, whole numbers from 0 to 2^63-1 were expected", key, v.String())
		}
		if n == limit {
			return list, tensorError(t, "%s holds more than %d numbers", key, limit)
		}
		list = append(list, x)
	}
	if _, err := d.ReadToken(); err != nil {
		return list, d.jsonError(err)
	}
	return list, nil
}

// KindName describes a JSON value's kind in words.
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
