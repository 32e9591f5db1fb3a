package plan

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metalcast/metalcast/internal/family"
)

// index writes model.safetensors.index.json as Hugging Face does: sizes, then every tensor's shard
// by name.
func (p *Plan) index() (text []byte, err error) {
	var size, parameters int64
	room := 1 << 10
	sorted := make([]*Tensor, len(p.Tensors))
	for i := range p.Tensors {
		t := &p.Tensors[i]
		sorted[i] = t
		size += t.Size
		parameters += t.Params
		room += len(t.Name) + len(p.Shards[t.Shard].Name) + 16 // quotes, indentation and so on
	}
	slices.SortFunc(sorted, func(a, b *Tensor) int { return cmp.Compare(a.Name, b.Name) })
	b := bytes.NewBuffer(make([]byte, 0, room))
	indent := "  "
	metadata := []jsontext.Token{
		jsontext.String("total_parameters"), jsontext.Int(parameters),
		jsontext.String("total_size"), jsontext.Int(size),
	}
	if p.Layout == family.MLX { // as mlx_lm does
		indent = nativeIndent
		metadata = append(metadata[2:], metadata[:2]...)
	}
	// There are none: see builder.target.
	e := jsontext.NewEncoder(b, jsontext.WithIndent(indent), jsontext.AllowDuplicateNames(true))
	write := func(tokens ...jsontext.Token) {
		for _, t := range tokens {
			err = cmp.Or(err, e.WriteToken(t))
		}
	}
	write(jsontext.BeginObject, jsontext.String("metadata"), jsontext.BeginObject)
	write(metadata...)
	write(jsontext.EndObject, jsontext.String("weight_map"), jsontext.BeginObject)
	for _, t := range sorted {
		write(jsontext.String(t.Name), jsontext.String(p.Shards[t.Shard].Name))
	}
	write(jsontext.EndObject, jsontext.EndObject)
	return b.Bytes(), err
}
