package metalcast_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/metal"
)

// Naive arithmetic on powers of two and small integers: no rounding happens in float64, so bits are
// cut, not computed.

// nearestBF16 searches the two bf16 neighbours of v for the nearer one, and of two equally near
// ones the even one.
func nearestBF16(v float64) uint16 {
	down := uint16(math.Float32bits(float32(math.Abs(v))) >> 16)
	for WidenBF16(down) > math.Abs(v) {
		down--
	}
	up := down + 1
	lo, hi := math.Abs(v)-WidenBF16(down), WidenBF16(up)-math.Abs(v)
	pick := down
	if hi < lo || hi == lo && up%2 == 0 {
		pick = up
	}
	if math.Signbit(v) {
		pick |= 0x8000
	}
	return pick
}

// TestConvertEqualsANaiveComputation compares a whole conversion with one that shares no code with
// it.
func TestConvertEqualsANaiveComputation(t *testing.T) {
	const experts, hidden, intermediate = 3, 200, 131
	c := RandomMoe(experts, hidden, intermediate, 9)
	src := c.Write(t)
	for _, device := range []string{"auto", "cpu"} {
		t.Run(device, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "dst")
			r, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{Device: device})
			require.NoError(t, err)
			assert.Equal(t, chosen(device), r.Device)
			out := DecodeDir(t, dst)
			require.Len(t, out, 3)
			const l = "model.language_model.layers.0.mlp.experts."
			gateUp, down := out[l+"gate_up_proj"], out[l+"down_proj"]
			assert.Equal(t, []int{experts, 2 * intermediate, hidden}, gateUp.Shape)
			assert.Equal(t, []int{experts, hidden, intermediate}, down.Shape)
			for e := range experts {
				for _, p := range []struct {
					name  string
					in    []byte
					start int // in elements
				}{
					{"gate_proj", gateUp.Data, 2 * e * intermediate * hidden},
					{"up_proj", gateUp.Data, (2*e + 1) * intermediate * hidden},
					{"down_proj", down.Data, e * intermediate * hidden},
				} {
					w := c.Find(fmt.Sprintf("%s%d.%s.weight", l, e, p.name))
					s := c.Find(w.Name + "_scale_inv")
					for i, code := range w.Data {
						scale := WidenBF16(binary.LittleEndian.Uint16(s.Data[2*(i/w.Shape[1]/128*s.Shape[1]+i%w.Shape[1]/128):]))
						got := binary.LittleEndian.Uint16(p.in[2*(p.start+i):])
						if want := nearestBF16(E4M3(code) * scale); got != want {
							t.Fatalf("expert %d, %s, element %d: code %#x x %v is %#04x, want %#04x", e, p.name, i, code, scale, got, want)
						}
					}
				}
			}
		})
	}
}

// chosen is the device that computes where device is asked for, on this machine.
func chosen(device string) string {
	if _, err := metal.Describe(); device == "auto" && err == nil {
		return "metal"
	}
	return "cpu"
}

func TestConvertRefusesNaNUnlessTold(t *testing.T) {
	c := Moe(2)
	const name = "model.language_model.layers.0.mlp.experts.1.up_proj.weight"
	c.Find(name).Data[5] = 0x7F
	src, dst := c.Write(t), filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{})
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	require.EqualError(t, err, `tensor "`+name+`": holds NaN codes (0x7F or 0xFF), the first at row 1, column 1`)
	assert.NoDirExists(t, dst)
	assert.NoDirExists(t, dst+".partial")
	r, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{KeepNaN: true})
	require.NoError(t, err)
	assert.Equal(t, []metalcast.Finding{{Tensor: name, NaNCodes: 1}}, r.Findings)
	got := DecodeDir(t, dst)["model.language_model.layers.0.mlp.experts.gate_up_proj"].Data
	assert.EqualValues(t, 0x7FC0, binary.LittleEndian.Uint16(got[2*(16+8+5):]), "canonical NaN")
}

func TestConvertRefusesOverflowUnlessTold(t *testing.T) {
	c := Moe(1)
	const name = "model.language_model.layers.0.mlp.experts.0.gate_proj.weight"
	c.Find(name).Data[3], c.Find(name).Data[6] = 0x7E, 0xFE // +-448
	c.Find(name + "_scale_inv").Data = []byte{0x80, 0x43}   // 256
	src, dst := c.Write(t), filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{DType: "float16", Scales: metalcast.TrustScales})
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	require.EqualError(t, err, `tensor "`+name+`": 2 of its values are too large for float16, the first at row 0, column 3`)
	assert.NoDirExists(t, dst)
	_, err = metalcast.Convert(context.Background(), src, dst, metalcast.Options{DType: "float16", AllowOverflow: true, Scales: metalcast.TrustScales})
	require.NoError(t, err)
}

func TestConvertKeepsAnEmptyDirectoryPrivate(t *testing.T) {
	src, dst := Moe(1).Write(t), filepath.Join(t.TempDir(), "dst")
	const mode = 0o711 | os.ModeSticky
	require.NoError(t, os.Mkdir(dst, 0o700))
	require.NoError(t, os.Chmod(dst, mode))
	modes := map[os.FileMode]int{}
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{Progress: func(string, int64, int64) {
		if st, err := os.Stat(dst + ".partial"); assert.NoError(t, err) {
			modes[st.Mode()&^os.ModeDir]++
		}
	}})
	require.NoError(t, err)
	st, err := os.Stat(dst)
	require.NoError(t, err)
	assert.Equal(t, mode, st.Mode()&^os.ModeDir)
	assert.Len(t, modes, 1)
	assert.Positive(t, modes[mode])
}

func TestConvertEndsWithItsContext(t *testing.T) {
	src, dst := RandomMoe(4, 512, 512, 1).Write(t), filepath.Join(t.TempDir(), "dst")
	ctx, cancel := context.WithCancel(context.Background())
	_, err := metalcast.Convert(ctx, src, dst, metalcast.Options{Progress: func(string, int64, int64) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	assert.NoDirExists(t, dst)
	assert.NoDirExists(t, dst+".partial")
}

func TestPlanWritesNothingAndAgreesWithConvert(t *testing.T) {
	src := RandomMoe(2, 64, 48, 1).Write(t)
	p, err := metalcast.PlanConversion(t.Context(), src, metalcast.Options{})
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "dst")
	r, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{})
	require.NoError(t, err)
	assert.Equal(t, *p, r.Preview)
	var total int64
	for _, s := range p.Shards {
		st, err := os.Stat(filepath.Join(dst, s.Name))
		require.NoError(t, err)
		assert.Equal(t, s.Bytes, st.Size())
	}
	entries, err := os.ReadDir(dst)
	require.NoError(t, err)
	assert.Len(t, entries, len(p.Shards)+len(p.Files))
	for _, e := range entries {
		st, err := e.Info()
		require.NoError(t, err)
		total += st.Size()
	}
	assert.Equal(t, p.DiskBytes, total)
}

func TestConvertNeverTouchesItsSource(t *testing.T) {
	dir := Moe(1).Write(t)
	require.NoError(t, os.Rename(dir, dir+".partial")) // what DST.partial would be called
	require.NoError(t, os.WriteFile(filepath.Join(dir+".partial", "metalcast.lock"), nil, 0o644))
	_, err := metalcast.Convert(context.Background(), dir+".partial", dir, metalcast.Options{Restart: true})
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	assert.ErrorContains(t, err, "src.partial: is the source itself")
	assert.FileExists(t, filepath.Join(dir+".partial", "model.safetensors"))
}

func TestConvertNoticesASourceThatChanges(t *testing.T) {
	src, dst := RandomMoe(4, 512, 512, 1).Write(t), filepath.Join(t.TempDir(), "dst")
	shard := filepath.Join(src, "model.safetensors")
	_, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{Progress: func(_ string, done, _ int64) {
		if done == 0 {
			require.NoError(t, os.Chtimes(shard, time.Time{}, time.Now().Add(time.Hour)))
		}
	}})
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	assert.ErrorContains(t, err, "model.safetensors: was written to at")
	assert.NoDirExists(t, dst)
	assert.NoDirExists(t, dst+".partial")
}

func TestCastsNameThePlace(t *testing.T) {
	c := Moe(1)
	w := c.Find("model.language_model.norm.weight")
	w.Shape = []int{8, 8}
	w.Data = make([]byte, 128)
	binary.LittleEndian.PutUint16(w.Data[2*(3*8+3):], 0x7F00) // about 1.7e38
	_, err := metalcast.Convert(context.Background(), c.Write(t), filepath.Join(t.TempDir(), "dst"), metalcast.Options{DType: "float16"})
	require.ErrorIs(t, err, metalcast.ErrCorrupt)
	assert.ErrorContains(t, err, `tensor "model.language_model.norm.weight": 1 of its values are too large for float16, the first at row 3, column 3`)
}

// Verify compares headers and side files too.
func TestVerifyReadsEverythingBack(t *testing.T) {
	c := RandomMoe(2, 64, 48, 1)
	c.Files["tokenizer.json"] = `{"a long": "enough file"}`
	src := c.Write(t)
	for name, test := range map[string]struct {
		// When it is spoilt: a header while the data is written, files once the data is read back.
		phase string
		file  string
		want  string
	}{
		"nothing":     {},
		"a header":    {"converting", "model.safetensors", "model.safetensors: the header on disk is not the one that was written"},
		"a side file": {"verifying", "tokenizer.json", "tokenizer.json: the file on disk is not what was written"},
		"the record":  {"verifying", "metalcast.json", "metalcast.json: the file on disk is not what was written"},
		"the index":   {"verifying", "model.safetensors.index.json", "model.safetensors.index.json: the file on disk"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "dst")
			done := false
			_, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{Verify: true, Progress: func(phase string, _, _ int64) {
				if phase == test.phase && !done {
					done = true
					require.NoError(t, poke(filepath.Join(dst+".partial", test.file), 20))
				}
			}})
			if test.file == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, metalcast.ErrMismatch)
			require.ErrorContains(t, err, test.want)
			assert.NoDirExists(t, dst)
			assert.NoDirExists(t, dst+".partial")
		})
	}
}

func poke(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{0xFF}, at)
	return err
}
