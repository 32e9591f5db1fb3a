//go:build unix

package metalcast_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/synth"
)

// grid is FP8 weights of one shape and the scales that they have in one dialect.
type grid struct {
	name   string
	suffix string // of the scale's name
	dtype  string // of the scales
	shape  []int  // of the weight
	scales []int  // their shape
	block  [2]int // rows and columns that share a scale
}

// grids are the forms in which scales are published, and a few whose blocks do not fill their
// edges.
var grids = []grid{
	{"blocks", "_scale_inv", "BF16", []int{300, 200}, []int{3, 2}, [2]int{128, 128}},
	{"blocks of F32", "_scale_inv", "F32", []int{129, 257}, []int{2, 3}, [2]int{128, 128}},
	{"blocks of F16", "_scale_inv", "F16", []int{256, 128}, []int{2, 1}, [2]int{128, 128}},
	{"exponents", "_scale_inv", "F8_E8M0", []int{200, 300}, []int{2, 3}, [2]int{128, 128}},
	{"exponents as bytes", "_scale_inv", "U8", []int{130, 130}, []int{2, 2}, [2]int{128, 128}},
	{"one scale", "_scale", "F32", []int{40, 48}, nil, [2]int{40, 48}},
	{"rows", "_scale", "BF16", []int{300, 70}, []int{300, 1}, [2]int{1, 70}},
	{"rows of F32", "_scale", "F32", []int{3, 40000}, []int{3, 1}, [2]int{1, 40000}},
	{"a stack", "_scale", "F32", []int{5, 16, 24}, []int{5, 1, 1}, [2]int{16, 24}},
	{"a stack of blocks", "_scale_inv", "F32", []int{3, 140, 130}, []int{3, 2, 2}, [2]int{128, 128}},
	{"blocks of 1x32", "_scale", "U8", []int{64, 256}, []int{64, 8}, [2]int{1, 32}},
}

// stored is a scale in a type, and what that then holds.
func stored(dtype string, x float64) (b []byte, held float64) {
	bits := math.Float32bits(float32(x))
	switch dtype {
	case "F32":
		return binary.LittleEndian.AppendUint32(nil, bits), float64(float32(x))
	case "BF16":
		return binary.LittleEndian.AppendUint16(nil, uint16(bits>>16)), float64(math.Float32frombits(bits &^ 0xFFFF))
	case "F16": // normal ones alone
		f, e := math.Frexp(x)
		m := math.Floor(f*2048) - 1024
		return binary.LittleEndian.AppendUint16(nil, uint16((e+14)<<10)+uint16(m)), math.Ldexp(1024+m, e-11)
	}
	_, e := math.Frexp(x)
	return []byte{byte(e - 1 + 127)}, math.Ldexp(1, e-1)
}

// weights makes codes that fill their range with scales that stored writes, for weights up to about
// most; what each is by code * factor(scale).
func (g grid) weights(seed uint64, scaleOf, factor func(most float64) float64) (list []Tensor, want []uint16) {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := Tensor{Name: "model.layers.0.x.weight", DType: "F8_E4M3", Shape: g.shape}
	s := Tensor{Name: w.Name + g.suffix, DType: g.dtype, Shape: g.scales}
	n := len(g.shape)
	rows, cols := g.shape[n-2], g.shape[n-1]
	down, across := (rows+g.block[0]-1)/g.block[0], (cols+g.block[1]-1)/g.block[1]
	held := []float64{}
	for range w.Bytes() / (rows * cols) * down * across {
		b, x := stored(g.dtype, scaleOf(math.Exp2(rng.Float64()*6-5)))
		s.Data, held = append(s.Data, b...), append(held, x)
	}
	for i := range w.Bytes() {
		c := byte(rng.IntN(256))
		if c&0x7F == 0x7F {
			c ^= 1
		}
		w.Data = append(w.Data, c)
		m, r, k := i/(rows*cols), i/cols%rows, i%cols
		scale := float64(float32(factor(held[(m*down+r/g.block[0])*across+k/g.block[1]])))
		want = append(want, nearestBF16(float64(float32(E4M3(c)*scale))))
	}
	return []Tensor{w, s}, want
}

// Rounded to float32 afterwards, as float64 has more than twice its digits, it is the division's.
func reciprocal(x float64) float64 { return 1 / x }

// plain is a checkpoint of a model that no family knows.
func plain(lists ...[]Tensor) *Checkpoint {
	return &Checkpoint{Shards: map[string][]Tensor{"model.safetensors": slices.Concat(lists...)},
		Files: map[string]string{"config.json": `{"model_type":"unheard_of"}`}}
}

func TestScalesThatAreReciprocals(t *testing.T) {
	needtest.Alone(t)
	for i, g := range grids {
		t.Run(g.name, func(t *testing.T) {
			list, want := g.weights(uint64(i), func(most float64) float64 { return 448 / most }, reciprocal)
			src, parent := plain(list).Write(t), t.TempDir()
			dst := filepath.Join(parent, "dst")
			o := metalcast.Options{Device: "cpu", DType: "bfloat16"} // asked for, or MXFP8 is left as it is
			_, err := metalcast.Convert(t.Context(), src, dst, o)
			require.ErrorIs(t, err, metalcast.ErrCorrupt)
			assert.Regexp(t, `^tensor "model.layers.0.x.weight": code [0-9]+ times scale [0-9.e+]+ is [0-9.]+(e\+0[5-7])?, at row \d+, column \d+; no model has weights beyond 4096, and 1 of 1 FP8 weight here have some: "`+
				regexp.QuoteMeta(list[1].Name)+`" seems to hold reciprocals of scales$`, err.Error())
			assert.Equal(t, "--scales invert divides by them; --scales trust converts as the file says", metalcast.Hint(err))
			left, readErr := os.ReadDir(parent)
			require.NoError(t, readErr)
			assert.Empty(t, left, "refused before anything is written")
			_, planErr := metalcast.PlanConversion(t.Context(), src, o)
			assert.EqualError(t, planErr, err.Error(), "plan")
			if g.block != [2]int{1, 32} {
				r, inspectErr := metalcast.Inspect(t.Context(), src, metalcast.InspectOptions{Scan: true})
				require.NoError(t, inspectErr)
				assert.Equal(t, err.Error(), r.Problem, "inspect")
				assert.Equal(t, metalcast.Hint(err), r.Hint, "inspect")
				require.Len(t, r.Findings, 1)
				assert.Positive(t, r.Findings[0].Large)
				assert.Greater(t, r.Findings[0].Largest, 4096.0)
			}

			o.Scales, o.Verify = metalcast.InvertScales, true
			_, err = metalcast.Convert(t.Context(), src, dst, o)
			require.NoError(t, err)
			got := DecodeDir(t, dst)["model.layers.0.x.weight"]
			require.Equal(t, g.shape, got.Shape)
			for k := range want {
				require.Equal(t, want[k], binary.LittleEndian.Uint16(got.Data[2*k:]), "element %d", k)
			}
			small := filepath.Join(parent, "small")
			o.MaxMemory, o.Verify = 30<<20, false
			_, err = metalcast.Convert(t.Context(), src, small, o)
			require.NoError(t, err)
			sameFiles(t, dst, small)

			_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
			require.NoError(t, err)
			_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{Convert: &metalcast.Options{DType: "bfloat16", Scales: metalcast.TrustScales}})
			require.ErrorIs(t, err, metalcast.ErrMismatch)
		})
	}
}

// Codes that fill their range, at scales that give weights of 0.03 to 2, are sound in all of these
// forms.
func TestScalesThatAreSound(t *testing.T) {
	needtest.Alone(t)
	for i, g := range grids {
		t.Run(g.name, func(t *testing.T) {
			list, want := g.weights(uint64(i), func(most float64) float64 { return most / 448 }, func(x float64) float64 { return x })
			src, dst := plain(list).Write(t), filepath.Join(t.TempDir(), "dst")
			r, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{Device: "cpu", DType: "bfloat16"})
			require.NoError(t, err)
			assert.Empty(t, r.Findings)
			got := DecodeDir(t, dst)["model.layers.0.x.weight"]
			for k := range want {
				require.Equal(t, want[k], binary.LittleEndian.Uint16(got.Data[2*k:]), "element %d", k)
			}
			_, err = metalcast.Convert(t.Context(), src, dst+"2", metalcast.Options{Device: "cpu", DType: "bfloat16", Scales: metalcast.InvertScales})
			require.ErrorIs(t, err, metalcast.ErrCorrupt)
			assert.Regexp(t, `^tensor "model.layers.0.x.weight": code \S+ times \S+, the reciprocal of its scale, is .*: ".*" holds no reciprocals$`, err.Error())
			assert.Equal(t, "leave --scales out", metalcast.Hint(err))
			assert.NoDirExists(t, dst+"2.partial")
		})
	}
}

func f32(values ...float32) (b []byte) {
	for _, x := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// perRow is a weight of two rows with a scale for each.
func perRow(name string, codes []byte, scales ...float32) []Tensor {
	return []Tensor{
		{Name: name + ".weight", DType: "F8_E4M3", Shape: []int{2, len(codes) / 2}, Data: codes},
		{Name: name + ".weight_scale", DType: "F32", Shape: []int{2, 1}, Data: f32(scales...)},
	}
}

func TestScalesAtTheirLimits(t *testing.T) {
	const trust, both = "--scales trust converts as the file says", "--scales invert divides by them; --scales trust converts as the file says"
	big, sound := []byte{0x7E, 0, 0xFE, 0}, []byte{0x70, 0x80, 1, 0xFE}
	for _, test := range []struct {
		name       string
		list       []Tensor
		how        string
		want, hint string
	}{
		{name: "weights that were only cast", list: perRow("a", big, 1, 1)},
		{name: "the greatest that passes", list: perRow("a", big, math.Nextafter32(4096.0/448, 0), 1)},
		{name: "the least that does not", list: perRow("a", big, 4096.0/448, 1), hint: both, // rounded up
			want: `tensor "a.weight": code 448 times scale 9.143 is 4096, at row 0, column 0; no model has weights beyond 4096, and 1 of 1 FP8 weight here have some: "a.weight_scale" seems to hold reciprocals of scales`},
		{name: "large scales of small codes", list: perRow("a", []byte{0x38, 8, 0xB8, 1}, 4096, -4096)},
		{name: "large scales of zeros", list: perRow("a", []byte{0, 0x80, 0x7E, 1}, math.MaxFloat32, 1)},
		{name: "a negative scale", list: perRow("a", []byte{0, 0, 0, 0x6E}, 1e-3, -1e5), hint: both,
			want: `tensor "a.weight": code 112 times scale 1e+05 is 1.12e+07, at row 1, column 1; no model has weights beyond 4096, and 1 of 1 FP8 weight here have some: "a.weight_scale" seems to hold reciprocals of scales`},
		{name: "one weight of several", list: slices.Concat(perRow("a", sound, 1e-3, 1e-3), perRow("b", sound, 1e4, 2e4), perRow("c", sound, 1e-3, 1e-3)), hint: trust,
			want: `tensor "b.weight": code 128 times scale 1e+04 is 1.28e+06, at row 0, column 0; no model has weights beyond 4096, and 1 of 3 FP8 weights here have some: "b.weight_scale" seems to hold reciprocals of scales, and "a.weight_scale" does not`},
		{name: "one weight of several, inverted", how: metalcast.InvertScales, hint: trust,
			list: slices.Concat(perRow("a", sound, 1e-3, 1e-3), perRow("b", sound, 1e4, 2e4), perRow("c", sound, 1e-3, 1e-3)),
			want: `tensor "a.weight": code 128 times 1000, the reciprocal of its scale, is 1.28e+05, at row 0, column 0; no model has weights beyond 4096, and 2 of 3 FP8 weights here have some: "a.weight_scale" holds no reciprocals, as others do`},
		{name: "no reciprocal", list: perRow("a", sound, 1e4, 0), how: metalcast.InvertScales,
			want: `tensor "a.weight_scale": holds a scale that has no reciprocal, for the weight's row 1, column 0`},
		{name: "a reciprocal beyond float32", list: perRow("a", sound, 1e4, 1e-40), how: metalcast.InvertScales,
			want: `tensor "a.weight_scale": holds a scale that has no reciprocal, for the weight's row 1, column 0`},
		{name: "reciprocals of zeros' scales", list: perRow("a", []byte{0x70, 1, 0, 0x80}, 1e4, float32(math.Inf(1))), how: metalcast.InvertScales},
		{name: "reciprocals of zeros' scales, capped", list: perRow("a", []byte{0x70, 1, 0, 0x80}, 1e4, math.MaxFloat32), how: metalcast.InvertScales},
		{name: "reciprocals, one of them of a zero", list: perRow("a", []byte{0x70, 1, 0, 0x80}, 1e4, float32(math.Inf(1))), hint: both,
			want: `tensor "a.weight": code 128 times scale 1e+04 is 1.28e+06, at row 0, column 0; no model has weights beyond 4096, and 1 of 1 FP8 weight here have some: "a.weight_scale" seems to hold reciprocals of scales`},
		{name: "zeros' large scale before another", list: perRow("a", []byte{0, 0x80, 0x70, 1}, math.MaxFloat32, 1e4), hint: both,
			want: `tensor "a.weight": code 128 times scale 1e+04 is 1.28e+06, at row 1, column 0; no model has weights beyond 4096, and 1 of 1 FP8 weight here have some: "a.weight_scale" seems to hold reciprocals of scales`},
		{name: "NaN at a large scale", list: perRow("a", []byte{0, 0, 0x7F, 0xFF}, 1e-3, 1e4), hint: "--nan-policy keep converts it all the same, NaN staying NaN",
			want: `tensor "a.weight": holds NaN codes (0x7F or 0xFF), the first at row 1, column 0`},
		{name: "an infinite scale of weights", list: perRow("a", sound, 1e-3, float32(math.Inf(1))), hint: "--nan-policy keep converts it all the same, NaN staying NaN",
			want: `tensor "a.weight_scale": holds a scale that is NaN or infinite, at [1, 0], for the weight's row 1, column 0`},
		{name: "trusted", list: perRow("a", big, 1e4, 1e4), how: metalcast.TrustScales},
	} {
		t.Run(test.name, func(t *testing.T) {
			src, parent := plain(test.list).Write(t), t.TempDir()
			_, err := metalcast.Convert(t.Context(), src, filepath.Join(parent, "dst"), metalcast.Options{Device: "cpu", Scales: test.how, Verify: true})
			if test.want == "" {
				require.NoError(t, err)
				_, err = metalcast.Verify(t.Context(), src, filepath.Join(parent, "dst"), metalcast.VerifyOptions{})
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.want)
			assert.Equal(t, 3, exitKind(err))
			assert.Equal(t, test.hint, metalcast.Hint(err))
			left, err := os.ReadDir(parent)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

// Of very many scales of one weight a few parts are read beforehand; what they do not show ends the
// run.
func TestScalesBeyondTheSurvey(t *testing.T) {
	w := Tensor{Name: "a.weight", DType: "F8_E4M3", Shape: []int{1024, 2048}, Data: slices.Repeat([]byte{0x38}, 1024*2048)}
	s := Tensor{Name: "a.weight_scale", DType: "U8", Shape: []int{1024, 64}, Data: slices.Repeat([]byte{120}, 1024*64)}
	s.Data[10_000] = 140
	src, dst := plain([]Tensor{w, s}).Write(t), filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.PlanConversion(t.Context(), src, metalcast.Options{DType: "bfloat16"})
	require.NoError(t, err)
	_, err = metalcast.Convert(t.Context(), src, dst, metalcast.Options{DType: "bfloat16", Device: "cpu"})
	require.EqualError(t, err, `tensor "a.weight": holds weights up to 8192, the first beyond 4096 at row 156, column 512, where no model has any`)
	assert.Equal(t, "--scales trust converts as the file says", metalcast.Hint(err))
	assert.NoDirExists(t, dst)
	r, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{DType: "bfloat16", Device: "cpu", Scales: metalcast.TrustScales, Restart: true})
	require.NoError(t, err)
	assert.Equal(t, []metalcast.Finding{{Tensor: "a.weight", Large: 32, Largest: 8192}}, r.Findings)
	for _, i := range []int{0, 21_000, 42_000, 65_535} { // one in each part
		one := s
		one.Data = slices.Repeat([]byte{120}, 1024*64)
		one.Data[i] = 140
		_, err = metalcast.PlanConversion(t.Context(), plain([]Tensor{w, one}).Write(t), metalcast.Options{DType: "bfloat16"})
		require.ErrorContains(t, err, fmt.Sprintf("code 1 times scale 8192 is 8192, at row %d, column %d;", i/64, i%64*32))
	}
}

// Heads of kv_b_proj are cut where no scale block ends; what is found in one has its place in the
// weight.
func TestScalesOfCutRows(t *testing.T) {
	src, _ := Synthetic(t, synth.Options{Family: "deepseek_v3", Layers: 1, BlockSize: 24, ScaleType: dtype.F32})
	const name = "model.layers.0.self_attn.kv_b_proj.weight"
	_, err := metalcast.PlanConversion(t.Context(), src, metalcast.Options{Layout: "mlx"})
	require.NoError(t, err)
	across := DecodeDir(t, src)[name+"_scale_inv"].Shape[1]
	w, k := DecodeDir(t, src)[name], 0
	RewriteScales(t, src, func(scale string, e int) int {
		if scale != name+"_scale_inv" {
			return e
		}
		if k++; k == 20*across+4 { // the fourth of row 20 of blocks
			return 127 + 14
		}
		return e
	})
	for _, layout := range []string{"", "mlx"} {
		_, err = metalcast.PlanConversion(t.Context(), src, metalcast.Options{Layout: layout})
		require.Error(t, err)
		m := regexp.MustCompile(`^tensor "` + regexp.QuoteMeta(name) + `": code (\S+) times scale 1.638e\+04 is \S+, at row (\d+), column (\d+);`).FindStringSubmatch(err.Error())
		require.NotNil(t, m, err.Error())
		row, _ := strconv.Atoi(m[2])
		col, _ := strconv.Atoi(m[3])
		// Its first row has large codes.
		assert.Equal(t, [2]int{20 * 24, 3}, [2]int{row, col / 24}, layout)
		assert.Equal(t, m[1], fmt.Sprintf("%g", math.Abs(E4M3(w.Data[row*w.Shape[1]+col]))), layout)
	}
}

func TestScalesAreRecordedAndCompared(t *testing.T) {
	needtest.Alone(t)
	src := RandomMoe(4, 512, 512, 1)
	for _, list := range src.Shards {
		for i := range list {
			if strings.HasSuffix(list[i].Name, "_scale_inv") {
				for k := range len(list[i].Data) / 2 {
					copy(list[i].Data[2*k:], []byte{0x20, 0x46}) // 10240
				}
			}
		}
	}
	dir, dst := src.Write(t), filepath.Join(t.TempDir(), "dst")
	o := manyWindows
	o.Scales = metalcast.InvertScales
	require.Error(t, cut(t, dir, dst, o, 0.5))
	other := manyWindows
	other.Scales = metalcast.TrustScales
	_, err := metalcast.Convert(t.Context(), dir, dst, other)
	require.ErrorContains(t, err, "--scales was invert and is trust now")
	r, err := metalcast.Convert(t.Context(), dir, dst, o)
	require.NoError(t, err)
	assert.True(t, r.Resumed)
	assert.Contains(t, r.Notes, "scales are taken for reciprocals: each weight is its code times 1/scale")
	text, err := os.ReadFile(filepath.Join(dst, "metalcast.json"))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"scales": "invert"`)
	_, err = metalcast.Verify(t.Context(), dir, dst, metalcast.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dst, "metalcast.json"), []byte(strings.Replace(string(text), "invert", "trust", 1)), 0o644))
	_, err = metalcast.Verify(t.Context(), dir, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrMismatch)
}

// A checkpoint with reciprocals gives, inverted, what the same one with scales gives: exactly so
// where they are powers of two. This holds for every family's names and forms, stacked, turned,
// split and quantized.
func TestInvertedScalesOfFamilies(t *testing.T) {
	needtest.Alone(t)
	forms := map[string]metalcast.Options{"": {}, "mlx": {Layout: "mlx"}, "-q": {Quantize: &metalcast.Quantize{GroupSize: 32}}}
	for _, family := range []string{"qwen3_5_moe", "deepseek_v3", "llama4", "minimax", "qwen3_moe"}[:needtest.Rounds(3, 5)] {
		src, _ := Synthetic(t, synth.Options{Family: family, Layers: 2, Seed: 5})
		bad := filepath.Join(t.TempDir(), "bad")
		require.NoError(t, os.CopyFS(bad, os.DirFS(src)))
		require.Positive(t, RewriteScales(t, src, func(_ string, e int) int { return e }))
		RewriteScales(t, bad, func(_ string, e int) int { return 254 - e })
		for name, o := range forms {
			t.Run(fmt.Sprintf("%s %s", family, name), func(t *testing.T) {
				parent := t.TempDir()
				want, got := filepath.Join(parent, "want"), filepath.Join(parent, "got")
				// By the device that there is: a GPU's kernels see reciprocals too.
				r, err := metalcast.Convert(t.Context(), src, want, o)
				if name != "" && metalcast.Hint(err) != "" {
					t.Skipf("not a form of this family's: %v", err)
				}
				require.NoError(t, err)
				assert.Empty(t, r.Findings)
				_, err = metalcast.Convert(t.Context(), bad, got, o)
				require.ErrorContains(t, err, "seems to hold reciprocals of scales")
				assert.NoDirExists(t, got+".partial")
				o.Scales = metalcast.InvertScales
				_, err = metalcast.Convert(t.Context(), bad, got, o)
				require.NoError(t, err)
				a, b := DecodeDir(t, want), DecodeDir(t, got)
				require.Len(t, b, len(a))
				for name := range a {
					require.Equal(t, a[name], b[name], name)
				}
			})
		}
	}
}

// A shard that has its size but not its data reads as zeros, which is said.
func TestScalesThatAreZero(t *testing.T) {
	src, _ := Synthetic(t, synth.Options{Family: "deepseek_v3", Layers: 2, Seed: 5})
	one := "model.layers.0.mlp.down_proj.weight"
	RewriteScales(t, src, func(name string, e int) int {
		if strings.HasPrefix(name, one) {
			return 0
		}
		return e
	})
	want := "every scale of 1 FP8 weight is 0, so these weights are 0; the first is " + one
	p, err := metalcast.PlanConversion(t.Context(), src, metalcast.Options{})
	require.NoError(t, err)
	assert.Contains(t, p.Notes, want)
	for name, o := range map[string]metalcast.Options{"bf16": {}, "4bit": {Quantize: &metalcast.Quantize{}}} {
		r, err := metalcast.Convert(t.Context(), src, filepath.Join(t.TempDir(), name), o)
		require.NoError(t, err)
		assert.Contains(t, r.Notes, want)
	}
	i, err := metalcast.Inspect(t.Context(), src, metalcast.InspectOptions{})
	require.NoError(t, err)
	assert.Contains(t, i.Notes, want)

	RewriteScales(t, src, func(string, int) int { return 0 })
	dst := filepath.Join(t.TempDir(), "dst")
	r, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{})
	require.NoError(t, err)
	assert.Contains(t, r.Notes, "every scale of the checkpoint is 0, so every FP8 weight is 0: a download that was cut short may leave such files")
}
