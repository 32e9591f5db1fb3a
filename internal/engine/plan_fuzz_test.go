package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/mlxquant"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// invention makes small checkpoints of every family, layout and dialect from choices, sound for the
// most part.
type invention struct {
	choices
	config  map[string]any
	text    map[string]any // where the language model's settings are
	family  *family.Family
	tensors []Tensor
	block   [2]int
	dialect string
	stacked int // how experts are: 0 and 1 apart
}

var modelTypes = append(family.All(), "qwen3_5_moe_text", "llama4_text", "mistral3", "mistral3 dense", "unheard_of")

func (g *invention) length() int {
	return choose(&g.choices, 4, 1, 2, 3, 8, 31, 32, 33, 64, 96, 128, 130)
}

// checkpoint invents one.
func (g *invention) checkpoint() {
	g.config, g.block = map[string]any{}, choose(&g.choices, [2]int{128, 128}, [2]int{1, 32}, [2]int{2, 3}, [2]int{64, 1})
	g.text = g.config
	switch t := choose(&g.choices, modelTypes...); t {
	case "mistral3":
		g.text = map[string]any{"model_type": "mistral4"}
		g.config["model_type"], g.config["text_config"] = t, g.text
	case "mistral3 dense":
		g.text = map[string]any{"model_type": "ministral3"}
		g.config["model_type"], g.config["text_config"] = "mistral3", g.text
	default:
		g.config["model_type"] = t
		if g.n(3) == 2 {
			g.text = map[string]any{}
			g.config["text_config"] = g.text
		}
	}
	g.dialect = choose(&g.choices, "_scale_inv", "_scale_inv", "_scale", ".scale", "_scale_inv", "_scale", "_weight_scale", "")
	g.stacked = g.n(4)
	if method := choose(&g.choices, "fp8", "fp8", "compressed-tensors", "modelopt", "fp8", "gptq", ""); method != "" {
		q := map[string]any{"quant_method": method}
		if g.n(4) < 3 || g.block != [2]int{128, 128} {
			q["weight_block_size"] = g.block
		}
		choose(&g.choices, g.config, g.text)["quantization_config"] = q
	}
	text, err := json.Marshal(g.config)
	if err != nil {
		panic(err)
	}
	c, err := checkpoint.ParseConfig(text)
	if err != nil {
		panic(err)
	}
	g.family = family.Of(c)
	layers := 1 + g.n(2)
	if g.n(8) != 7 {
		g.text["num_hidden_layers"] = layers
	}
	prefix := choose(&g.choices, "model.layers.", "model.language_model.layers.", "model.layers.", "model.language_model.layers.", "language_model.model.layers.", "backbone.layers.")
	for l := range layers {
		g.layer(fmt.Sprintf("%s%d", prefix, l))
	}
	if g.n(2) == 1 {
		g.extras(prefix, layers)
	}
	for range choose(&g.choices, 0, 0, 0, 0, 1, 1, 2, 3) {
		g.spoil()
	}
}

func (g *invention) add(name, t string, shape ...int) {
	if slices.ContainsFunc(g.tensors, func(x Tensor) bool { return x.Name == name }) {
		return
	}
	g.tensors = append(g.tensors, Tensor{Name: name, DType: t, Shape: shape})
}

// weight adds a matrix, or a stack, mostly in FP8 with scales of some form.
func (g *invention) weight(name string, shape ...int) {
	t := choose(&g.choices, "F8_E4M3", "F8_E4M3", "BF16", "F16", "F32")
	g.add(name, t, shape...)
	if t != "F8_E4M3" || g.dialect == "" {
		return
	}
	scale := name + g.dialect
	if g.dialect == ".scale" {
		scale = strings.TrimSuffix(name, ".weight") + ".scale"
	}
	lead, rows, cols := shape[:len(shape)-2], shape[len(shape)-2], shape[len(shape)-1]
	down, across := (rows+g.block[0]-1)/g.block[0], (cols+g.block[1]-1)/g.block[1]
	var grid []int
	switch g.n(16) {
	default:
		grid = append(slices.Clone(lead), down, across)
	case 8, 9:
		grid = append(slices.Clone(lead), rows, 1)
	case 10:
		grid = append(slices.Clone(lead), 1, cols)
	case 11, 12:
		grid = slices.Clone(lead)
	case 13:
		grid = append(slices.Clone(lead), down, 1, across, 1)
	}
	g.add(scale, choose(&g.choices, "BF16", "F32", "F16", "F8_E8M0", "U8"), grid...)
}

func (g *invention) layer(l string) {
	hidden, inner := g.length(), g.length()
	g.add(l+".input_layernorm.weight", choose(&g.choices, "BF16", "F32"), hidden)
	if g.n(2) == 0 {
		g.weight(l+".self_attn.q_proj.weight", g.length(), hidden)
	}
	if g.n(3) == 2 {
		heads, nope, value := 1+g.n(3), g.length(), g.length()
		g.text["num_attention_heads"], g.text["qk_nope_head_dim"], g.text["v_head_dim"] = heads, nope, value
		g.weight(l+".self_attn.kv_b_proj.weight", heads*(nope+value), g.length())
	}
	if g.n(3) == 2 {
		g.add(l+".linear_attn.conv1d.weight", "BF16", hidden, 1, choose(&g.choices, 4, 1, 2))
		g.add(l+".linear_attn.A_log", "F32", 4)
	}
	e := g.family.Experts
	if e == nil {
		g.weight(l+".mlp.up_proj.weight", inner, hidden)
		return
	}
	n := g.n(4)
	if len(e.CountKeys) > 0 && g.n(4) != 3 {
		g.text[e.CountKeys[0]] = n
	}
	g.add(l+".mlp.gate.weight", "BF16", max(n, 1), hidden)
	stem := l + e.Infix
	switch g.stacked {
	case 2:
		if e.GateUpName == "" {
			for _, p := range []string{e.Gate, e.Up} {
				g.weight(stem+p+".weight", n, inner, hidden)
			}
			g.weight(stem+e.Down+".weight", n, hidden, inner)
			return
		}
		if e.Transposed {
			g.weight(stem+e.GateUpName, n, hidden, 2*inner)
			g.weight(stem+e.DownName, n, inner, hidden)
			return
		}
		g.weight(stem+e.GateUpName, n, 2*inner, hidden)
		g.weight(stem+e.DownName, n, hidden, inner)
	case 3:
		if e.Dense != "" {
			g.weight(l+e.Dense, inner, hidden)
		}
	default:
		keep := g.choices // every matrix is made by the same choices
		for i := range n {
			for _, p := range []string{e.Gate, e.Up} {
				g.choices = keep
				if p != "" {
					g.weight(fmt.Sprintf("%s%d.%s.weight", stem, i, p), inner, hidden)
				}
			}
			g.choices = keep
			g.weight(fmt.Sprintf("%s%d.%s.weight", stem, i, e.Down), hidden, inner)
		}
	}
}

func (g *invention) extras(prefix string, layers int) {
	g.config["tie_word_embeddings"] = g.n(2) == 1
	g.config["torch_dtype"] = choose(&g.choices, "bfloat16", "float32", "float8", "")
	g.add("lm_head.weight", "BF16", g.length(), g.length())
	g.add("model.embed_tokens.weight", "F32", g.length(), g.length())
	g.add("model.visual.patch.weight", "BF16", g.length(), 2, 2)
	g.weight("mtp.fc.weight", g.length(), g.length())
	if g.family.MTP.Layers || g.n(8) == 7 {
		g.weight(fmt.Sprintf("%s%d.eh_proj.weight", prefix, layers), g.length(), g.length())
	}
	g.add(prefix+"0.self_attn.k_scale", "F32")
	g.add("scalar", choose(&g.choices, "I64", "F32", "U8", "I32"), choose(&g.choices, []int{}, []int{0}, []int{2}, []int{0, 5, 3}, []int{3, 0})...)
}

// spoil makes something wrong, or odd.
func (g *invention) spoil() {
	if len(g.tensors) == 0 {
		return
	}
	i := g.n(len(g.tensors))
	x := &g.tensors[i]
	switch g.n(8) {
	case 0:
		g.tensors = slices.Delete(g.tensors, i, i+1)
	case 1:
		x.DType = choose(&g.choices, "F8_E4M3", "BF16", "F32", "U8", "I8", "F8_E5M2", "F8_E8M0", "I64", "U32")
	case 2:
		x.Shape = choose(&g.choices, []int{}, []int{0}, []int{7}, []int{0, 4}, []int{4, 0}, []int{0, 2, 3}, []int{2, 3, 4}, []int{1, 1, 1, 1}, []int{1 << 40, 0}, []int{0, 1 << 62},
			[]int{1 << 31, 0, 2}, []int{3, 1})
	case 3:
		name := x.Name + choose(&g.choices, "_scale", "_scale_inv", ".scales", ".biases", "s", ".weight", "_zero_point", ".input_scale")
		g.add(name, choose(&g.choices, "F32", "BF16", "U32", "U8"), choose(&g.choices, []int{}, []int{1}, []int{1, 1}, []int{2, 2})...)
	case 4:
		name := strings.Replace(x.Name, choose(&g.choices, "0", "layers", "model.", ".weight", "proj"), choose(&g.choices, "1", "", "00", "language_model.model.", "99999999999999999999"), 1)
		if !slices.ContainsFunc(g.tensors, func(t Tensor) bool { return t.Name == name }) {
			x.Name = name
		}
	case 5:
		key := choose(&g.choices, "num_hidden_layers", "num_experts", "n_routed_experts", "num_attention_heads", "v_head_dim", "qk_nope_head_dim", "quantization_config", "text_config", "quantization")
		g.text[key] = choose[any](&g.choices, 0, 1, 2, 3, -1, 1e300, 1.5, "4", nil, []int{1}, map[string]any{}, true, 1<<20, 1<<40)
	case 6:
		g.config["quantization_config"] = map[string]any{"quant_method": "fp8", "weight_block_size": choose[any](&g.choices, []int{1, 1}, []int{3, 5}, "128x128", []int{0, 1}, []any{}, []int{1 << 31, 1}, []int{1<<31 - 1, 1<<31 - 1})}
	case 7:
		if k := len(x.Shape) - 1; k >= 0 && x.Shape[k] < 200 {
			x.Shape = slices.Clone(x.Shape)
			x.Shape[k] = x.Shape[k]*2 + 1
		}
	}
}

// options invents what is asked for.
func (g *invention) options() plan.Options {
	layouts := []family.Layout{"", family.Auto, family.PerExpert}
	if e := g.family.Experts; e != nil && e.GateUpName != "" || g.n(8) == 7 {
		layouts = append(layouts, family.Stacked)
	}
	if g.family.Native != nil || g.n(8) == 7 {
		layouts = append(layouts, family.MLX, family.MLX)
	}
	o := plan.Options{Tool: "metalcast fuzz", Layout: choose(&g.choices, layouts...), DType: choose(&g.choices, dtype.Invalid, dtype.BF16, dtype.F16, dtype.F32)}
	o.Roles = family.Options{KeepMTP: g.n(8) == 7, TrustScales: g.n(3) == 2}
	o.ShardSize = choose(&g.choices, int64(0), 1, 1000, 30000)
	if g.n(3) != 2 || g.family.Native == nil && g.n(8) < 7 {
		return o
	}
	o.Layout = choose(&g.choices, "", family.MLX, "", "", "", family.Stacked)
	affine := mlxquant.Affine.Default()
	o.Quantize = &plan.Quantization{Format: choose(&g.choices, mlxquant.Format{Mode: mlxquant.Affine, Bits: 3, GroupSize: 32}, affine, mlxquant.MXFP4.Default(), mlxquant.MXFP8.Default(), mlxquant.NVFP4.Default(),
		mlxquant.Format{Mode: mlxquant.Affine, Bits: 7, GroupSize: 32}), Recipe: choose(&g.choices, "", "", "", "mixed_2_6", "", "mixed_9_9")}
	if g.n(6) == 5 {
		o.Quantize.Overrides = []plan.Override{{Pattern: choose(&g.choices, "*", "*up_proj", "**", "x"), Format: choose(&g.choices, nil, &affine)}}
	}
	return o
}

// write puts the checkpoint into dir: headers, and as many bytes of data as they promise, all of
// them holes.
func (g *invention) write(dir string) error {
	text, err := json.Marshal(g.config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644); err != nil {
		return err
	}
	shards := [][]Tensor{g.tensors}
	if n := len(g.tensors); n > 1 && g.n(2) == 1 { // scales may be in another shard
		shards = [][]Tensor{g.tensors[:n/2], g.tensors[n/2:]}
	}
	for _, name := range []string{"model.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for i, list := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		if err := os.WriteFile(filepath.Join(dir, name), Encode(list), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (g *invention) bytes() (n int) {
	for _, x := range g.tensors {
		n += max(0, x.Bytes())
	}
	return n
}

// FuzzPlan plans invented checkpoints. A plan is either refused, as the checkpoint's or the
// options' fault, or it keeps every promise: pieces read what the tensors hold, each byte once or
// for a reason not at all, and scales inside their tensors; windows of any size write every byte
// once; all that is written passes the strict readers; and planning again gives the same plan.
func FuzzPlan(f *testing.F) {
	for i := range len(modelTypes) {
		f.Add([]byte{0, byte(i)})
		f.Add([]byte{0, byte(i), 0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 8, 1, 0, 2, 0, 0, 2, 1, 1, 3, 4, 2, 1, 1, 3, 0, 0, 0, 0, 0, 4})
	}
	chance(f, needtest.Rounds(200, 600), 80)
	dir, err := os.MkdirTemp(memoryDir(), "fuzzplan")
	require.NoError(f, err)
	f.Cleanup(func() { os.RemoveAll(dir) })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 400 {
			return
		}
		g := &invention{choices: b}
		g.checkpoint()
		if g.bytes() > 200<<10 {
			return
		}
		require.NoError(t, g.write(dir))
		v, err := checkpoint.Open(t.Context(), dir)
		if err != nil {
			ours(t, err)
			return
		}
		o := g.options()
		p, err := plan.New(v, o)
		if err != nil {
			ours(t, err)
			return
		}
		if p.DiskBytes() > 4<<20 {
			return
		}
		promises(t, p)
		again, err := plan.New(v, o)
		require.NoError(t, err)
		require.Equal(t, p.Tensors, again.Tensors)
		require.Equal(t, p.Pieces, again.Pieces)
		require.Equal(t, p.Texts, again.Texts)
	})
}

// chance adds inputs of n bytes, every other one with many zeros: the first choice is the soundest.
func chance(f *testing.F, inputs, n int) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range inputs {
		b := make([]byte, n)
		for k := range b {
			if b[k] = byte(rng.Uint32()); i%2 == 0 && rng.IntN(2) == 0 {
				b[k] = 0
			}
		}
		f.Add(b)
	}
}

// memoryDir is a directory in memory, where there is one.
func memoryDir() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// ours demands an error of a kind, with a text of one line that is not too long to read.
func ours(t *testing.T, err error) {
	t.Helper()
	var e *fault.Error
	require.ErrorAs(t, err, &e)
	require.NotNil(t, e.Kind, err.Error())
	require.NotContains(t, err.Error(), "\n")
	require.NotRegexp(t, Misprint, err.Error())
	require.Less(t, len(err.Error()), 4096)
}

// promises checks what the design promises of every plan.
func promises(t *testing.T, p *plan.Plan) {
	t.Helper()
	v := p.Source
	var sizes []int64
	var read [][]uint8
	for i := range v.Shards {
		sizes = append(sizes, v.Shards[i].Size)
		read = append(read, make([]uint8, v.Shards[i].Size))
	}
	scales := map[*checkpoint.Tensor]bool{}
	for i := range p.Pieces {
		q := &p.Pieces[i]
		require.True(t, q.Code >= q.Source.Offset && q.Code+q.InBytes() <= q.Source.Offset+q.Source.Size, "piece %d of %s is not inside its tensor", i, q.Source.Name)
		for k := q.Code; k < q.Code+q.InBytes(); k++ {
			read[q.Source.Shard][k]++
		}
		if !q.Params.Scaled() {
			continue
		}
		scales[q.Scale] = true
		last := (q.Row+q.Rows-1)/int64(q.Params.BlockRows)*q.ScaleCols + (q.Cols-1)/int64(q.Params.BlockCols)
		matrices := int64(1)
		for _, n := range q.Source.Shape[:len(q.Source.Shape)-2] {
			matrices *= n
		}
		// Whatever their form, every matrix has as many scales, or all share one.
		size := q.Params.ScaleType.Size()
		require.Equal(t, q.Scale.Offset+q.Matrix*(q.Scale.Size/size/matrices)*size, q.Scales, "the scales of piece %d of %s", i, q.Source.Name)
		inside := q.Scales >= q.Scale.Offset && q.Scales+(last+1)*q.Params.ScaleType.Size() <= q.Scale.Offset+q.Scale.Size && (q.Cols-1)/int64(q.Params.BlockCols) < q.ScaleCols
		require.True(t, inside, "the scales of piece %d of %s are not inside %s", i, q.Source.Name, q.Scale.Name)
	}
	dropped := map[*checkpoint.Tensor]bool{}
	for _, d := range p.Dropped {
		require.NotEmpty(t, d.Reason)
		dropped[d.Tensor] = true
	}
	for i := range v.Tensors {
		x := &v.Tensors[i]
		// A scale of nothing is used up too.
		once := !dropped[x] && !scales[x] && !strings.Contains(x.Name, "scale")
		list := read[x.Shard][x.Offset : x.Offset+x.Size]
		require.False(t, slices.ContainsFunc(list, func(n uint8) bool { return n > 1 }), "%s is read twice", x.Name)
		require.False(t, once && slices.Contains(list, 0), "%s is not dropped and not read", x.Name)
	}
	tr, err := newTracer(p)
	require.NoError(t, err)
	for _, p.Invert = range []bool{true, false} {
		least := MinMemory(p)
		for _, s := range []*Schedule{{Slots: slots, plan: p, size: 4096, beside: piecesBeside(p)}, NewSchedule(p, least), NewSchedule(p, 2*least+4321), NewSchedule(p, 400<<20)} {
			require.NoError(t, tr.run(s, sizes))
		}
	}
	texts(t, p)
}

// texts reads what the plan writes beside the data: headers, index and config.
func texts(t *testing.T, p *plan.Plan) {
	t.Helper()
	placed := map[string]string{}
	for i := range p.Tensors {
		x := &p.Tensors[i]
		require.NotContains(t, placed, x.Name)
		placed[x.Name] = p.Shards[x.Shard].Name
	}
	n := 0
	for _, s := range p.Shards {
		h, err := safetensors.Parse(s.Header[8:], s.Size-int64(len(s.Header)))
		require.NoError(t, err)
		for _, x := range h.Tensors {
			require.Equal(t, s.Name, placed[x.Name], x.Name)
			n++
		}
	}
	require.Equal(t, len(p.Tensors), n)
	for _, x := range p.Texts {
		switch x.Name {
		case checkpoint.IndexName:
			var index struct {
				WeightMap map[string]string `json:"weight_map"`
			}
			require.NoError(t, json.Unmarshal(x.Data, &index))
			require.True(t, maps.Equal(placed, index.WeightMap))
		case checkpoint.ConfigName:
			c, err := checkpoint.ParseConfig(x.Data)
			require.NoError(t, err, string(x.Data))
			require.Equal(t, p.Quantized != nil, c.Get("quantization_config").Exists())
			require.False(t, c.Get("text_config.quantization_config").Exists())
			if p.Layout == family.MLX {
				break
			}
			c.Get("@this").ForEach(func(key, value gjson.Result) bool { // everything else stays
				switch key.String() {
				case "dtype", "torch_dtype", "text_config":
				default:
					require.JSONEq(t, p.Source.Config.Get(gjson.Escape(key.String())).Raw, value.Raw, key.String())
				}
				return true
			})
		}
	}
}
