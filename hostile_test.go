//go:build unix

package metalcast_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/needtest"
)

// hostile is a checkpoint that must be refused: Moe(2), made wrong.
type hostile struct {
	name   string
	change func(c *Checkpoint)            // before it is written
	spoil  func(t *testing.T, dir string) // and after
	option metalcast.Options
	exit   int    // what the command ends with
	long   bool   // takes seconds
	want   string // the whole error; SRC stands for the source's directory
}

const (
	layer0  = "model.language_model.layers.0."
	experts = layer0 + "mlp.experts."
	shard   = "model.safetensors"
	index   = "model.safetensors.index.json"
)

// header replaces the shard by one of any header, with n bytes of data.
func header(text string, n int) func(*Checkpoint) {
	return raw(string(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)) + strings.Repeat("\x00", n))
}

// raw replaces the shard by any bytes.
func raw(text string) func(*Checkpoint) {
	return func(c *Checkpoint) { c.Shards, c.Files[shard] = nil, text }
}

// entry is a header of one tensor.
func entry(dtype, shape string, begin, end int) string {
	return fmt.Sprintf(`{"a":{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}}`, dtype, shape, begin, end)
}

func config(text string) func(*Checkpoint) {
	return func(c *Checkpoint) { c.Files["config.json"] = text }
}

// setting changes the config's text.
func setting(old, text string) func(*Checkpoint) {
	return func(c *Checkpoint) {
		if !strings.Contains(c.Files["config.json"], old) {
			panic("the config has no " + old)
		}
		c.Files["config.json"] = strings.Replace(c.Files["config.json"], old, text, 1)
	}
}

func file(name, text string) func(*Checkpoint) { return func(c *Checkpoint) { c.Files[name] = text } }

func with(list ...Tensor) func(*Checkpoint) {
	return func(c *Checkpoint) { c.Shards[shard] = append(c.Shards[shard], list...) }
}

// only makes a checkpoint of another config that has these tensors alone.
func only(config string, list ...Tensor) func(*Checkpoint) {
	return func(c *Checkpoint) {
		c.Files["config.json"], c.Shards = config, map[string][]Tensor{shard: list}
	}
}

// tensor replaces one, or with an empty type its shape alone.
func tensor(name, dtype string, shape ...int) func(*Checkpoint) {
	return func(c *Checkpoint) {
		x := c.Find(name)
		if dtype != "" {
			x.DType = dtype
		}
		x.Shape = shape
	}
}

func without(part string) func(*Checkpoint) { return func(c *Checkpoint) { c.Remove(part) } }

func data(name string, bytes ...byte) func(*Checkpoint) {
	return func(c *Checkpoint) { c.Find(name).Data = bytes }
}

func all(changes ...func(*Checkpoint)) func(*Checkpoint) {
	return func(c *Checkpoint) {
		for _, f := range changes {
			f(c)
		}
	}
}

// split makes a numbered set of shards of one tensor each.
func split(names ...string) func(*Checkpoint) {
	return func(c *Checkpoint) {
		list := c.Shards[shard]
		delete(c.Shards, shard)
		for i, name := range names {
			c.Shards[name] = list[i : i+1]
		}
	}
}

func indexed(more map[string]string) func(*Checkpoint) {
	return func(c *Checkpoint) { c.Index(more) }
}

// instead removes a file and puts something else there.
func instead(name string, put func(t *testing.T, path string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		put(t, path)
	}
}

func link(to string) func(*testing.T, string) {
	return func(t *testing.T, path string) { require.NoError(t, os.Symlink(to, path)) }
}

// upTo links to a file by as many ".." as it takes from there.
func upTo(file string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		to, err := filepath.Rel(filepath.Dir(path), file)
		require.NoError(t, err)
		link(to)(t, path)
	}
}

// outside links to a sound file outside of the checkpoint.
func outside(t *testing.T, path string) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.WriteFile(elsewhere, []byte("{}"), 0o600))
	link(elsewhere)(t, path)
}

func directory(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o755)) }
func fifo(t *testing.T, path string)      { require.NoError(t, syscall.Mkfifo(path, 0o644)) }

func socket(t *testing.T, path string) {
	short, err := os.MkdirTemp("", "s") // the path of a socket is short
	require.NoError(t, err)
	l, err := net.Listen("unix", filepath.Join(short, "s"))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close(); os.RemoveAll(short) })
	require.NoError(t, os.Rename(filepath.Join(short, "s"), path))
}

// length makes a file longer, with a hole, or shorter.
func length(name string, n int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, name), n)) }
}

// begins writes over a file's beginning and makes it as long as n, with a hole.
func begins(name, text string, n int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		length(name, n)(t, dir)
	}
}

// holes is a shard of one tensor whose data is a hole.
func holes(dtype, shape string, n int64, more string) func(*testing.T, string) {
	text := fmt.Sprintf(`{"a.weight":{"dtype":%q,"shape":%s,"data_offsets":[0,%d]}%s}`, dtype, shape, n, more)
	text = string(binary.LittleEndian.AppendUint64(nil, uint64(len(text)))) + text
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, shard)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		if err := os.Truncate(path, int64(len(text))+n+int64(strings.Count(more, "dtype"))*4); err != nil {
			needtest.Skip(t, "system", "no file of %d bytes here: %v", n, err)
		}
	}
}

const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 5368709120\n"

// TestHostile converts every checkpoint of the table on the CPU. Each is refused with its message
// and its exit status, soon, and leaves nothing.
func TestHostile(t *testing.T) {
	needtest.Alone(t)
	refuseAll(t, "cpu")
}

func refuseAll(t *testing.T, device string) {
	t.Helper()
	names := map[string]bool{}
	for _, row := range hostiles {
		require.False(t, names[row.name], "%s is there twice", row.name)
		names[row.name] = true
		t.Run(row.name, func(t *testing.T) {
			if row.long && !needtest.Long() {
				t.Skip("takes long (METALCAST_LONG=1 runs it)")
			}
			c := Moe(2)
			if row.change != nil {
				row.change(c)
			}
			dir := c.Write(t)
			if row.spoil != nil {
				row.spoil(t, dir)
			}
			parent := t.TempDir()
			o := row.option
			o.Device = device
			done := make(chan error, 1)
			go func() {
				_, err := metalcast.Convert(context.Background(), dir, filepath.Join(parent, "dst"), o)
				done <- err
			}()
			var err error
			select {
			case err = <-done:
			case <-time.After(5 * time.Minute):
				t.Fatal("hangs")
			}
			require.Error(t, err)
			got := strings.ReplaceAll(err.Error(), dir, "SRC")
			assert.Equal(t, row.want, got)
			assert.Equal(t, row.exit, exitKind(err), got)
			assert.NotContains(t, got, "\n")
			left, err := os.ReadDir(parent)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
	assert.GreaterOrEqual(t, len(names), 60)
}

// TestHostileHarmless converts what looks dangerous and is not: as a sound checkpoint is converted,
// in little memory. Verify agrees.
func TestHostileHarmless(t *testing.T) {
	needtest.Alone(t)
	bomb := "---\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 10; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), i-1)
	}
	bomb += "tags: *a9\n---\n# Model\n"
	var keys strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&keys, "k%d: [a, b]\n", i)
	}
	for name, row := range map[string]struct {
		change func(c *Checkpoint)
		option metalcast.Options
	}{
		"aliases of aliases in README.md":            {file("README.md", bomb), metalcast.Options{Layout: "mlx"}},
		"fifty thousand keys in README.md":           {file("README.md", "---\n"+keys.String()+"---\n"), metalcast.Options{Layout: "mlx"}},
		"front matter a megabyte deep":               {file("README.md", "---\n"+strings.Repeat("[", 1<<20)+"\n---\n"), metalcast.Options{Layout: "mlx"}},
		"a generation config eight million deep":     {file("generation_config.json", strings.Repeat("[", 8<<20)), metalcast.Options{Layout: "mlx"}},
		"a tokenizer that is no JSON":                {file("tokenizer.json", "\x00\xFF"), metalcast.Options{}},
		"a file called like a device of Windows":     {file("aux.json", "{}"), metalcast.Options{}},
		"a hidden file":                              {file(".git", "x"), metalcast.Options{}},
		"another's metalcast.json":                   {file("metalcast.json", "x"), metalcast.Options{}},
		"another's lock and journal":                 {all(file("metalcast.lock", "x"), file("metalcast.journal", "x")), metalcast.Options{}},
		"weights in pickles":                         {all(file("pytorch_model.bin", "\x80\x02"), file("training_args.pt", "x")), metalcast.Options{}},
		"Python files":                               {file("modeling_evil.py", "import os; os.abort()"), metalcast.Options{}},
		"a name with slashes, quotes and dots":       {with(Tensor{Name: `../../x/"'\\..`, DType: "BF16", Shape: []int{2}}), metalcast.Options{}},
		"an empty name":                              {with(Tensor{Name: "", DType: "BF16", Shape: []int{2}}), metalcast.Options{}},
		"64 dimensions":                              {with(Tensor{Name: "x", DType: "BF16", Shape: slices.Repeat([]int{1}, 64)}), metalcast.Options{}},
		"a scalar":                                   {with(Tensor{Name: "x", DType: "F32"}), metalcast.Options{DType: "float16"}},
		"empty tensors":                              {with(Tensor{Name: "x", DType: "F32", Shape: []int{0}}, Tensor{Name: "y", DType: "F32", Shape: []int{0, 2, 3}}, Tensor{Name: "z", DType: "F32", Shape: []int{2, 0, 1 << 40}}), metalcast.Options{DType: "bfloat16"}},
		"an empty FP8 weight":                        {with(Tensor{Name: "x.weight", DType: "F8_E4M3", Shape: []int{0, 4}}, Tensor{Name: "x.weight_scale_inv", DType: "F32", Shape: []int{0, 1}}), metalcast.Options{}},
		"an empty stack of FP8 weights":              {with(Tensor{Name: "x.weight", DType: "F8_E4M3", Shape: []int{0, 4, 4}}, Tensor{Name: "x.weight_scale", DType: "F32", Shape: []int{0, 1, 1}}), metalcast.Options{Layout: "mlx"}},
		"a model type of a megabyte":                 {setting("qwen3_5_moe", strings.Repeat("x", 1<<20)), metalcast.Options{}},
		"settings of other kinds":                    {setting(`"num_hidden_layers": 1`, `"num_hidden_layers": {"a": [1]}, "tie_word_embeddings": "yes"`), metalcast.Options{}},
		"keys that are paths to some":                {setting("{\n", "{\n  \"text_config.dtype\": 1, \"@this\": 2, \"*\": 3, \"a.b\": 4,\n"), metalcast.Options{}},
		"a config 9,000 levels deep, left as it is":  {setting("{\n", `{"a":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+","), metalcast.Options{}},
		"an index that places a tensor elsewhere":    {all(func(c *Checkpoint) { c.Shards["b.safetensors"] = []Tensor{{Name: "b", DType: "BF16", Shape: []int{1}}} }, indexed(map[string]string{"model.language_model.norm.weight": "b.safetensors"})), metalcast.Options{}},
		"an index that leaves a tensor out":          {file(index, `{"weight_map":{"model.language_model.norm.weight":"model.safetensors"}}`), metalcast.Options{}},
		"AppleDouble files":                          {file("._model.safetensors", "x"), metalcast.Options{}},
		"a stray shard beside an index":              {all(indexed(nil), file("model-mtp.safetensors", "x")), metalcast.Options{}},
		"a weight's name that is another's and more": {with(Tensor{Name: "x.scales", DType: "BF16", Shape: []int{1}}, Tensor{Name: "x.biases", DType: "BF16", Shape: []int{1}}), metalcast.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Moe(2)
			row.change(c)
			dir, dst := c.Write(t), filepath.Join(t.TempDir(), "dst")
			o := row.option
			o.Device = "cpu"
			_, err := metalcast.Convert(context.Background(), dir, dst, o)
			require.NoError(t, err)
			_, err = metalcast.Verify(context.Background(), dir, dst, metalcast.VerifyOptions{Device: "cpu"})
			require.NoError(t, err)
			for name := range c.Files {
				if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "pytorch") {
					assert.NoFileExists(t, filepath.Join(dst, name))
				}
			}
		})
	}
}

// Shards whose sizes overflow when they are added up are files with holes, for which not every file
// system has room.
func TestHostileSizes(t *testing.T) {
	parent, err := os.MkdirTemp("/dev/shm", "hostile")
	if err != nil {
		needtest.Skip(t, "system", "no /dev/shm: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	dir := filepath.Join(parent, "src")
	directory(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o644))
	holes("U8", "[1125899906842624]", 1<<50, "")(t, dir)
	_, err = metalcast.Convert(context.Background(), dir, filepath.Join(parent, "dst"), metalcast.Options{Device: "cpu"})
	require.EqualError(t, err, dir+": its shards are longer than 2^50 bytes together")
	assert.Equal(t, 4, exitKind(err))
}

// What is to be verified comes from anywhere too.
func TestHostileDestination(t *testing.T) {
	src, dst := Moe(2).Write(t), filepath.Join(t.TempDir(), "dst")
	_, err := metalcast.Convert(context.Background(), src, dst, metalcast.Options{Device: "cpu"})
	require.NoError(t, err)
	for _, name := range []string{"metalcast.json", "README.md", "config.json", shard, "more"} {
		for what, put := range map[string]func(*testing.T, string){"FIFO": fifo, "socket": socket, "device": link("/dev/zero"), "directory": directory} {
			t.Run(name+" "+what, func(t *testing.T) {
				if name == "more" && what == "directory" {
					return // an empty one is no file
				}
				path := filepath.Join(dst, name)
				if name != "more" {
					require.NoError(t, os.Rename(path, path+".kept"))
					defer os.Rename(path+".kept", path) //nolint:errcheck // the next verification sees it
				}
				defer os.RemoveAll(path)
				put(t, path)
				done := make(chan error, 1)
				go func() {
					_, err := metalcast.Verify(context.Background(), src, dst, metalcast.VerifyOptions{Device: "cpu"})
					done <- err
				}()
				select {
				case err := <-done:
					require.Error(t, err)
					assert.Contains(t, []int{3, 7}, exitKind(err), err.Error())
				case <-time.After(5 * time.Minute):
					t.Fatal("hangs")
				}
			})
		}
	}
	_, err = metalcast.Verify(context.Background(), src, dst, metalcast.VerifyOptions{Device: "cpu"})
	require.NoError(t, err)
}

// exitKind is the exit status that the command gives an error, by its kind.
func exitKind(err error) int {
	for _, x := range []struct {
		kind error
		exit int
	}{
		{metalcast.ErrUsage, 2}, {metalcast.ErrNothingToDo, 8}, {metalcast.ErrCorrupt, 3}, {metalcast.ErrIncomplete, 3}, {metalcast.ErrUnsupported, 4}, {metalcast.ErrNoSpace, 5},
		{metalcast.ErrMismatch, 7},
	} {
		if errors.Is(err, x.kind) {
			return x.exit
		}
	}
	return 1
}
