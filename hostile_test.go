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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
)

// hostile is a checkpoint that must be refused: Moe(2), made wrong.
type hostile struct {
	name   string
	change func(c *Checkpoint)            // before it is written
	spoil  func(t *testing.T, dir string) // and after
	option metalcast.Options
	exit   int    // what the command ends with
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
			t.Skipf("no file of %d bytes here: %v", n, err)
		}
	}
}

const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 5368709120\n"

// TestHostile converts every checkpoint of the table on the CPU. Each is refused with its message and its exit status, soon, and leaves nothing.
func TestHostile(t *testing.T) { refuseAll(t, "cpu") }

func refuseAll(t *testing.T, device string) {
	t.Helper()
	names := map[string]bool{}
	for _, row := range hostiles {
		require.False(t, names[row.name], "%s is there twice", row.name)
		names[row.name] = true
		t.Run(row.name, func(t *testing.T) {
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

// Shards whose sizes overflow when they are added up are files with holes, for which not every file system has room.
func TestHostileSizes(t *testing.T) {
	parent, err := os.MkdirTemp("/dev/shm", "hostile")
	if err != nil {
		t.Skip(err)
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
