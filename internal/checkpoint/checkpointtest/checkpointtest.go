// Package checkpointtest writes small checkpoints for tests, sound or broken at will. It writes
// safetensors by itself, without the product's writer.
package checkpointtest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/temptest"
)

// Misprint is what package fmt leaves in a text whose verbs and arguments do not fit. A message may
// quote a file that has a "%!" of its own.
var Misprint = regexp.MustCompile(`%!(\(EXTRA |\(NOVERB\)|.\((MISSING|BADINDEX|[a-z]+[a-z0-9.*]*=))`)

// Tensor is a tensor to be written. Data is cut or filled with zeros to what type and shape ask
// for.
type Tensor struct {
	Name  string
	DType string // as in the file
	Shape []int
	Data  []byte
}

// Checkpoint is a directory to be written: its shards' tensors in the order of their data, and
// other files.
type Checkpoint struct {
	Shards map[string][]Tensor
	Files  map[string]string
}

var width = map[string]int{"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U8": 1, "I8": 1, "BF16": 2, "F16": 2, "F32": 4, "U32": 4, "I32": 4, "I64": 8}

// Bytes is the tensor's length.
func (t Tensor) Bytes() int {
	n := width[t.DType]
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Moe is a sound qwen3_5_moe checkpoint of one layer with the given experts, hidden size 4 and
// intermediate size 2, in one FP8 block each.
func Moe(experts int) *Checkpoint {
	c := &Checkpoint{Files: map[string]string{"config.json": MoeConfig(experts)}, Shards: map[string][]Tensor{}}
	var list []Tensor
	for e := range experts {
		for _, p := range []struct {
			name  string
			shape []int
		}{{"down_proj", []int{4, 2}}, {"gate_proj", []int{2, 4}}, {"up_proj", []int{2, 4}}} {
			name := fmt.Sprintf("model.language_model.layers.0.mlp.experts.%d.%s.weight", e, p.name)
			data := make([]byte, 8)
			for i := range data {
				data[i] = byte(0x30 + 8*e + i)
			}
			list = append(list, Tensor{name, "F8_E4M3", p.shape, data}, Tensor{name + "_scale_inv", "BF16", []int{1, 1}, []byte{0x80, 0x3F}})
		}
	}
	list = append(list, Tensor{Name: "model.language_model.norm.weight", DType: "BF16", Shape: []int{4}})
	c.Shards["model.safetensors"] = list
	return c
}

// MoeConfig is the config of Moe.
func MoeConfig(experts int) string {
	return fmt.Sprintf(`{
  "architectures": ["Qwen3_5MoeForConditionalGeneration"],
  "model_type": "qwen3_5_moe",
  "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
  "text_config": {
    "dtype": "bfloat16",
    "num_experts": %d,
    "num_hidden_layers": 1
  }
}
`, experts)
}

// Find returns the tensor of a name, for a test to change.
func (c *Checkpoint) Find(name string) *Tensor {
	for _, list := range c.Shards {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	panic("checkpointtest: no tensor " + name)
}

// Remove takes the tensors out whose name contains part.
func (c *Checkpoint) Remove(part string) {
	for shard, list := range c.Shards {
		c.Shards[shard] = slices.DeleteFunc(list, func(t Tensor) bool { return strings.Contains(t.Name, part) })
	}
}

// Write writes the checkpoint into a new directory whose path has no links. It skips a test whose
// files have names that the file system takes for one, as those of Macs do.
func (c *Checkpoint) Write(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(temptest.Dir(t), "src")
	require.NoError(t, os.Mkdir(dir, 0o755))
	for name, text := range c.Files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	for name, list := range c.Shards {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), Encode(list), 0o644))
	}
	names := maps.Clone(c.Files)
	for name := range c.Shards {
		names[name] = ""
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	if len(entries) < len(names) {
		needtest.Skip(t, "system", "this file system takes some of these names for one")
	}
	return dir
}

// Index writes an index that places every tensor where it is, and further ones where the test says.
func (c *Checkpoint) Index(more map[string]string) {
	m := map[string]string{}
	for shard, list := range c.Shards {
		for _, t := range list {
			m[t.Name] = shard
		}
	}
	for k, v := range more {
		m[k] = v
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 0}, "weight_map": m})
	if err != nil {
		panic(err)
	}
	c.Files["model.safetensors.index.json"] = string(text)
}

// Encode is the bytes of a safetensors file.
func Encode(list []Tensor) []byte {
	var header strings.Builder
	var data []byte
	header.WriteByte('{')
	for i, t := range list {
		if i > 0 {
			header.WriteByte(',')
		}
		n := t.Bytes()
		shape, _ := json.Marshal(append([]int{}, t.Shape...))
		fmt.Fprintf(&header, `%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, t.Name, t.DType, shape, len(data), len(data)+n)
		data = append(data, append(t.Data[:len(t.Data):len(t.Data)], make([]byte, n)...)[:n]...)
	}
	header.WriteByte('}')
	b := binary.LittleEndian.AppendUint64(nil, uint64(header.Len()))
	return append(append(b, header.String()...), data...)
}

// Decode reads a safetensors file naively: the data of each tensor by name, with its type and
// shape.
func Decode(t testing.TB, path string) map[string]Tensor {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	n := binary.LittleEndian.Uint64(b)
	var header map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(b[8:8+n], &header))
	out := map[string]Tensor{}
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var e struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		require.NoError(t, json.Unmarshal(raw, &e))
		data := b[8+n:]
		out[name] = Tensor{name, e.DType, e.Shape, data[e.Offsets[0]:e.Offsets[1]]}
	}
	return out
}

// DecodeDir reads all shards of a directory.
func DecodeDir(t testing.TB, dir string) map[string]Tensor {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	require.NoError(t, err)
	all := map[string]Tensor{}
	for _, p := range paths {
		for name, x := range Decode(t, p) {
			require.NotContains(t, all, name)
			all[name] = x
		}
	}
	return all
}
