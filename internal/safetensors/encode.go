package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Encode returns a header, including the 8 length bytes, for tensors in the order of their data.
// The JSON is padded with spaces so that the data begins at a multiple of align bytes. If format
// ("pt" or "mlx") is not empty, it is the only key of the metadata.
//
// The tensors must satisfy the rules that Parse checks; otherwise Encode panics, because the plan
// is wrong.
func Encode(tensors []Tensor, format string, align int64) []byte {
	h := Header{Tensors: tensors}
	if n := len(tensors); n > 0 {
		if err := h.validate(tensors[n-1].End); err != nil {
			panic(fmt.Sprintf("safetensors: internal error: %v", err))
		}
	}
	if repeats(tensors) || slices.ContainsFunc(tensors, func(t Tensor) bool { return t.Name == metadataKey }) {
		panic("safetensors: internal error: a name occurs twice, or is reserved")
	}
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	e := jsontext.NewEncoder(&b, jsontext.AllowDuplicateNames(true)) // checked above
	write := func(tokens ...jsontext.Token) {
		for _, t := range tokens {
			if err := e.WriteToken(t); err != nil {
				panic(fmt.Sprintf("safetensors: internal error: %v", err))
			}
		}
	}
	write(jsontext.BeginObject)
	if format != "" {
		write(jsontext.String(metadataKey), jsontext.BeginObject, jsontext.String("format"), jsontext.String(format), jsontext.EndObject)
	}
	for i := range tensors {
		t := &tensors[i]
		write(jsontext.String(t.Name), jsontext.BeginObject,
			jsontext.String("dtype"), jsontext.String(t.DType.String()),
			jsontext.String("shape"), jsontext.BeginArray)
		for _, d := range t.Shape {
			write(jsontext.Int(d))
		}
		write(jsontext.EndArray,
			jsontext.String("data_offsets"), jsontext.BeginArray, jsontext.Int(t.Begin), jsontext.Int(t.End), jsontext.EndArray,
			jsontext.EndObject)
	}
	write(jsontext.EndObject)
	for b.Bytes()[b.Len()-1] == '\n' {
		b.Truncate(b.Len() - 1)
	}
	for int64(b.Len())%align != 0 {
		b.WriteByte(' ')
	}
	out := b.Bytes()
	binary.LittleEndian.PutUint64(out, uint64(len(out)-8))
	return out
}
