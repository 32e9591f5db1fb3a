// Package safetensors reads and writes the headers of safetensors files, strictly.
//
// A file consists of an 8-byte little-endian length n, a JSON object of n bytes (which may end in
// spaces), and the data. The object maps a tensor's name to its dtype, shape and data_offsets
// [begin, end), counted from the first data byte, and may contain "__metadata__", a map of strings.
// The rules are those of the reference implementation (huggingface/safetensors, tensor.rs,
// validate): offsets are contiguous from 0 in order, end - begin is shape times element size, and
// the last tensor ends where the file does. Duplicate names and invalid UTF-8 are refused too.
package safetensors

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// MaxHeader is the longest header accepted, in bytes: the reference implementation's limit.
const MaxHeader = 100_000_000

// MaxTensors is how many tensors a header may have: five times as many as the largest models have.
// Keeping one in memory takes many times more bytes than declaring it.
const MaxTensors = 1 << 20

// maxRank bounds a shape, maxElements the product of its nonzero dimensions. No checkpoint comes
// near either, and computing with values within them cannot overflow.
const (
	maxRank     = 64
	maxElements = 1 << 50
)

// Tensor is an entry in a header.
type Tensor struct {
	Name  string
	DType dtype.DType
	Shape []int64
	Begin int64 // start of the data, counted from Header.DataStart
	End   int64
}

// Size returns the length of the tensor's data in bytes.
func (t *Tensor) Size() int64 { return t.End - t.Begin }

// Header is a parsed header: its tensors in the order of their data.
type Header struct {
	Tensors   []Tensor
	Metadata  map[string]string
	DataStart int64             // file offset of the first data byte: 8 + the header's length
	Sum       [sha256.Size]byte // of the header's JSON text
}

// Read reads and checks the header of a file of size bytes. Errors are *fault.Error without the
// file's name.
func Read(r io.ReaderAt, size int64) (*Header, error) {
	if size < 8 {
		return nil, fault.Corrupt("", "%d bytes, too short for a safetensors file", size)
	}
	var length [8]byte
	if err := readFull(r, length[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch {
	case n > MaxHeader:
		if what := looksLike(length[:]); what != "" {
			return nil, fault.Corrupt("", "begins with %q: %s, not a safetensors file", length[:], what)
		}
		return nil, fault.Corrupt("", "header length is %d bytes, at most %d are accepted: not a safetensors file, or a damaged one", n, MaxHeader)
	case int64(n) > size-8:
		return nil, fault.Incomplete("", "header of %d bytes does not fit the file of %d bytes: truncated", n, size)
	}
	text := make([]byte, n)
	if err := readFull(r, text, 8); err != nil {
		return nil, err
	}
	return Parse(text, size-8-int64(n))
}

// looksLike recognises by its first 8 bytes what is often found under a shard's name, or returns
// "".
func looksLike(head []byte) string {
	for _, x := range []struct{ head, what string }{
		{"<", "a web page"}, {"GGUF", "a GGUF file"}, {"PK\x03\x04", "a zip archive, as PyTorch writes"}, {"\x80\x02", "a pickle"}, {"{", "JSON text"},
	} {
		if bytes.HasPrefix(head, []byte(x.head)) {
			return x.what
		}
	}
	return ""
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fault.Incomplete("", "file ends at byte %d inside the header", off+int64(n))
	}
	return &fault.Error{What: "header", Err: err}
}

// Parse checks a header's JSON text against dataSize, the number of bytes that follow it.
func Parse(text []byte, dataSize int64) (*Header, error) {
	h, err := decode(text)
	if err != nil {
		return nil, err
	}
	h.DataStart, h.Sum = 8+int64(len(text)), sha256.Sum256(text)
	slices.SortFunc(h.Tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End), cmp.Compare(a.Name, b.Name))
	})
	return h, h.validate(dataSize)
}

func (h *Header) validate(dataSize int64) error {
	var at int64
	for i := range h.Tensors {
		t := &h.Tensors[i]
		_, bounded := Elements(t.Shape)
		want, whole := Bytes(t.DType, t.Shape)
		switch {
		case t.End < t.Begin:
			return tensorError(t, "data_offsets [%d, %d] run backwards", t.Begin, t.End)
		case !bounded:
			return tensorError(t, "shape %v x %s overflows: more than 2^50 elements", t.Shape, t.DType)
		case !whole:
			return tensorError(t, "shape %v x %s is no whole number of bytes", t.Shape, t.DType)
		case want != t.Size():
			return tensorError(t, "shape %v x %s is %d bytes, data_offsets [%d, %d] span %d", t.Shape, t.DType, want, t.Begin, t.End, t.Size())
		case t.Begin > at:
			return tensorError(t, "data begins at %d, the tensor before it ends at %d: %d bytes belong to no tensor", t.Begin, at, t.Begin-at)
		case t.Begin < at:
			return tensorError(t, "data begins at %d, inside the tensor before it, which ends at %d", t.Begin, at)
		case t.End > dataSize:
			e := tensorError(t, "data ends at %d, the file has %d bytes of data: truncated", t.End, dataSize)
			e.Kind = fault.ErrIncomplete
			return e
		}
		at = t.End
	}
	if at != dataSize {
		return fault.Corrupt("", "%d bytes follow the last tensor, which ends at %d of %d", dataSize-at, at, dataSize)
	}
	return nil
}

func tensorError(t *Tensor, format string, args ...any) *fault.Error {
	return fault.Corrupt("tensor "+quote(t.Name), format, args...)
}

// Bytes returns the data length of a tensor: the product of its shape and element width. The
// result is false if Elements fails or the length is not a whole number of bytes.
func Bytes(t dtype.DType, shape []int64) (int64, bool) {
	n, ok := Elements(shape)
	if !ok {
		return 0, false
	}
	size := n * t.Bits() // at most 2^56
	return size / 8, size%8 == 0
}

// Elements returns the product of a shape, which is 1 for a scalar, and false if a dimension is
// negative or the product of the nonzero dimensions exceeds 2^50.
func Elements(shape []int64) (int64, bool) {
	n, zero := int64(1), false
	for _, d := range shape {
		switch {
		case d < 0 || d > maxElements/n:
			return 0, false
		case d == 0:
			zero = true
		default:
			n *= d
		}
	}
	if zero {
		return 0, true
	}
	return n, true
}
