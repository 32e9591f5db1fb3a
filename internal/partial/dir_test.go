//go:build unix

package partial_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/plan"
)

var oneShard = &plan.Plan{Shards: []plan.Shard{{Name: "model.safetensors", Header: []byte("12345678{header}"), Size: 16 + 100}}}

func TestDirAppearsWholeByOneRename(t *testing.T) {
	for _, exists := range []bool{false, true} {
		dst := filepath.Join(t.TempDir(), "dst")
		if exists { // an empty directory is as good as none
			require.NoError(t, os.Mkdir(dst, 0o755))
		}
		d, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
		require.NoError(t, err)
		shard := filepath.Join(dst+".partial", "model.safetensors")
		st, err := os.Stat(shard)
		require.NoError(t, err)
		assert.EqualValues(t, 116, st.Size(), "the real size at once")
		require.NoError(t, d.Write([]engine.Extent{{Off: 16, Data: []byte(strings.Repeat("x", 100))}}))
		b, err := os.ReadFile(shard)
		require.NoError(t, err)
		assert.Equal(t, make([]byte, 8), b[:8], "no length before the data is synced")
		require.NoError(t, d.Seal(t.Context()))
		require.NoError(t, d.AddFile(t.Context(), "config.json", strings.NewReader("{}")))
		if !exists {
			assert.NoDirExists(t, dst)
		}
		require.NoError(t, d.Commit())
		b, err = os.ReadFile(filepath.Join(dst, "model.safetensors"))
		require.NoError(t, err)
		assert.Equal(t, "12345678{header}"+strings.Repeat("x", 100), string(b))
		assert.NoDirExists(t, dst+".partial")
		entries, err := os.ReadDir(dst)
		require.NoError(t, err)
		assert.Len(t, entries, 2, "no lock is left")
	}
}

// Extents of several shards come at once, long ones are written in pieces.
func TestDirWritesExtents(t *testing.T) {
	data := make([]byte, 9<<20+5)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	p := &plan.Plan{}
	for _, name := range []string{"a.safetensors", "b.safetensors"} {
		p.Shards = append(p.Shards, plan.Shard{Name: name, Header: []byte("12345678{header}"), Size: 16 + int64(len(data))})
	}
	dst := filepath.Join(t.TempDir(), "dst")
	d, err := partial.CreateDir(dst, p, partial.DirOptions{})
	require.NoError(t, err)
	const third = 3 << 20
	require.NoError(t, d.Write(nil))
	at := func(shard int, off int64, data []byte) engine.Extent {
		return engine.Extent{Shard: shard, Off: off, Data: data}
	}
	require.NoError(t, d.Write([]engine.Extent{at(0, 16+third, data[third:]), at(0, 16, data[:third]), at(0, 16, nil), at(1, 16, data[:third])}))
	require.NoError(t, d.Write([]engine.Extent{at(1, 16+third, data[third:])}))
	require.NoError(t, d.Seal(t.Context()))
	require.NoError(t, d.Commit())
	for _, s := range p.Shards {
		b, err := os.ReadFile(filepath.Join(dst, s.Name))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(append([]byte("12345678{header}"), data...), b), s.Name)
	}
}

// A piece is in the journal once that many bytes of all extents have been written since the last
// save point.
func TestDirCheckpointsAfterSoManyBytes(t *testing.T) {
	p := *oneShard
	p.Pieces = make([]plan.Piece, 4)
	dst := filepath.Join(t.TempDir(), "dst")
	d, err := partial.CreateDir(dst, &p, partial.DirOptions{Every: 40})
	require.NoError(t, err)
	var in []string // the journal, of one window more each time
	for i := range int32(4) {
		off := 16 + int64(i)*25
		require.NoError(t, d.Write([]engine.Extent{{Off: off, Data: make([]byte, 5)}, {Off: off + 5, Data: make([]byte, 20)}}))
		require.NoError(t, d.Done([]int32{i}, &engine.Counts{}))
		b, err := os.ReadFile(filepath.Join(dst+".partial", "metalcast.journal"))
		require.NoError(t, err)
		in = append(in, string(b))
	}
	assert.NotContains(t, in[0], `"done"`)
	assert.Contains(t, in[1], `"done":[[0,2]]`)
	assert.Equal(t, in[1], in[2])
	assert.Contains(t, in[3], `"done":[[0,4]]`)
	require.NoError(t, d.Abort())
}

func TestDirAbortLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	d, err := partial.CreateDir(filepath.Join(parent, "dst"), oneShard, partial.DirOptions{})
	require.NoError(t, err)
	require.NoError(t, d.Abort())
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

// Where a removal fails, what is left has its marker: the next run may take it over.
func TestDirAbortWhereOpenFilesStayOrRemovalFails(t *testing.T) {
	aborted := func(fail func(m *memFS)) (*memFS, error) {
		m := newMemFS()
		d, err := partial.CreateDir("/out/dst", oneShard, partial.DirOptions{FS: m})
		require.NoError(t, err)
		require.NoError(t, d.AddFile(t.Context(), "more/tokenizer.json", strings.NewReader("{}")))
		fail(m)
		return m, d.Abort()
	}
	m, err := aborted(func(*memFS) {})
	require.NoError(t, err)
	assert.Len(t, m.names, 2, "/ and /out")
	failures := 0
	for ops := 1; ; ops++ {
		m, err := aborted(func(m *memFS) { m.failAt, m.fail = m.ops+ops, syscall.EIO })
		if err == nil {
			break
		}
		failures++
		require.EqualError(t, err, "/out/dst.partial: cannot be removed: input/output error")
		for name := range m.names {
			if strings.HasPrefix(name, "/out/dst.partial/") {
				assert.NotNil(t, m.names["/out/dst.partial/metalcast.lock"], "%s without a marker", name)
			}
		}
	}
	assert.Greater(t, failures, 4)
}

// Somebody may have removed what is to be removed.
func TestDirAbortOfNothing(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "dst")
	d, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dst+".partial"))
	require.NoError(t, d.Abort())
	d, err = partial.CreateDir(dst, oneShard, partial.DirOptions{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dst+".partial", "metalcast.lock")))
	require.NoError(t, d.Abort())
	assert.NoDirExists(t, dst+".partial")
}

func TestDirRefuses(t *testing.T) {
	parent := t.TempDir()
	full := filepath.Join(parent, "full")
	require.NoError(t, os.Mkdir(full, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o644))
	_, err := partial.CreateDir(full, oneShard, partial.DirOptions{})
	require.ErrorContains(t, err, "full: exists and is not empty")
	file := filepath.Join(parent, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err = partial.CreateDir(file, oneShard, partial.DirOptions{})
	require.ErrorContains(t, err, "file: exists and is no directory")

	require.NoError(t, os.Mkdir(filepath.Join(parent, "a.partial"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(parent, "a.partial", "mine"), nil, 0o644))
	_, err = partial.CreateDir(filepath.Join(parent, "a"), oneShard, partial.DirOptions{Restart: true})
	require.ErrorContains(t, err, "a.partial: exists and was not made by metalcast")
	assert.FileExists(t, filepath.Join(parent, "a.partial", "mine"))
}

func TestDirLocksOutASecondRun(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "dst")
	d, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
	require.NoError(t, err)
	_, err = partial.CreateDir(dst, oneShard, partial.DirOptions{Restart: true})
	require.ErrorContains(t, err, "another metalcast is writing there")
	require.NoError(t, d.Abort())
}

// leave makes a DST.partial as a killed run leaves it: the lock is free.
func leave(t *testing.T, dst, journal string) {
	t.Helper()
	require.NoError(t, os.Mkdir(dst+".partial", 0o755))
	for name, text := range map[string]string{
		"metalcast.lock": "a conversion by metalcast is in progress here, or was interrupted\n", "metalcast.journal": journal,
		"model.safetensors": strings.Repeat("x", 116), "old": "",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dst+".partial", name), []byte(text), 0o644))
	}
}

func TestDirGoesOnWithWhatIsThere(t *testing.T) {
	p := *oneShard
	p.Pieces = make([]plan.Piece, 10)
	for name, test := range map[string]struct {
		journal string
		done    [][2]int32
		err     string
	}{
		"no journal":                {"", nil, ""},
		"no first line":             {`{"a":1`, nil, ""},
		"no checkpoint":             {"{\"a\":1}\n", nil, ""},
		"a checkpoint":              {"{\"a\":1}\n{\"done\":[[0,3],[5,7]]}\n", [][2]int32{{0, 3}, {5, 7}}, ""},
		"the last of several":       {"{\"a\":1}\n{\"done\":[[0,3]]}\n{\"done\":[[0,4]]}\n", [][2]int32{{0, 4}}, ""},
		"a torn last line":          {"{\"a\":1}\n{\"done\":[[0,3]]}\n{\"done\":[[0,", [][2]int32{{0, 3}}, ""},
		"garbage for a last line":   {"{\"a\":1}\n{\"done\":[[0,3]]}\n\x00\x00\x00\n", [][2]int32{{0, 3}}, ""},
		"another state":             {"{\"a\":2}\n{\"done\":[[0,3]]}\n", nil, "was left by a run with other options or another source"},
		"another state, no advance": {"{\"a\":2}\n{\"done\":[]}\n", nil, ""},
		"pieces beyond the plan":    {"{\"a\":1}\n{\"done\":[[0,11]]}\n", nil, "names pieces that the conversion does not have"},
		"a range that runs back":    {"{\"a\":1}\n{\"done\":[[3,1]]}\n", nil, "names pieces that the conversion does not have"},
		"counts in several lines":   {"{\"a\":1}\n{\"done\":[[0,3]],\"found\":[{\"piece\":2}]}\n{\"done\":[[0,5]],\"found\":[{\"piece\":4}]}\n", [][2]int32{{0, 5}}, ""},
		"counts of pieces":          {"{\"a\":1}\n{\"done\":[[0,3]],\"found\":[{\"piece\":2}]}\n", [][2]int32{{0, 3}}, ""},
		"counts of what is not":     {"{\"a\":1}\n{\"done\":[[0,3]],\"found\":[{\"piece\":3}]}\n", nil, "names pieces that the conversion does not have"},
		"counts beyond the plan":    {"{\"a\":1}\n{\"done\":[[0,3]],\"found\":[{\"piece\":64}]}\n", nil, "names pieces that the conversion does not have"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "dst")
			leave(t, dst, test.journal)
			o := partial.DirOptions{State: []byte(`{"a":1}`)}
			d, err := partial.CreateDir(dst, &p, o)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				assert.FileExists(t, filepath.Join(dst+".partial", "old"), "nothing is touched")
				o.Restart = true
				d, err = partial.CreateDir(dst, &p, o)
			}
			require.NoError(t, err)
			assert.Equal(t, test.done, d.Resumed().Done)
			if name == "counts in several lines" {
				assert.Equal(t, []engine.Found{{Piece: 2}, {Piece: 4}}, d.Resumed().Found)
			}
			assert.Equal(t, test.done == nil && test.err == "", d.StartedOver())
			if test.done == nil { // started over
				assert.NoFileExists(t, filepath.Join(dst+".partial", "old"))
			}
			b, err := os.ReadFile(filepath.Join(dst+".partial", "model.safetensors"))
			require.NoError(t, err)
			assert.Equal(t, make([]byte, 8), b[:8], "no reader takes it for a model")
			require.NoError(t, d.Abort())
			assert.NoDirExists(t, dst+".partial")
		})
	}
}

func TestDirRefusesShardsOfAnotherSize(t *testing.T) {
	p := *oneShard
	p.Pieces = make([]plan.Piece, 10)
	dst := filepath.Join(t.TempDir(), "dst")
	leave(t, dst, "{}\n{\"done\":[[0,3]]}\n")
	require.NoError(t, os.Truncate(filepath.Join(dst+".partial", "model.safetensors"), 100))
	_, err := partial.CreateDir(dst, &p, partial.DirOptions{State: []byte("{}")})
	require.ErrorContains(t, err, "model.safetensors: is 100 bytes long, the interrupted run made it of 116")
}

func TestDirCommitNeverReplacesAnything(t *testing.T) {
	for name, appear := range map[string]func(dst string) error{
		"a directory that is not empty": func(dst string) error {
			return errors.Join(os.Mkdir(dst, 0o755), os.WriteFile(filepath.Join(dst, "theirs"), nil, 0o644))
		},
		"an empty directory": func(dst string) error { return os.Mkdir(dst, 0o755) },
		"a file":             func(dst string) error { return os.WriteFile(dst, []byte("theirs"), 0o644) },
		"a link":             func(dst string) error { return os.Symlink("theirs", dst) },
	} {
		for _, before := range []bool{false, true} { // was there an empty directory when the run began
			t.Run(name, func(t *testing.T) {
				dst := filepath.Join(t.TempDir(), "dst")
				if before {
					require.NoError(t, os.Mkdir(dst, 0o755))
				}
				d, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
				require.NoError(t, err)
				require.NoError(t, d.Seal(t.Context()))
				if before {
					require.NoError(t, os.Remove(dst))
				}
				require.NoError(t, appear(dst))
				if err := d.Commit(); before && name == "an empty directory" {
					require.NoError(t, err)
					return
				}
				st, err := os.Lstat(dst)
				require.NoError(t, err)
				assert.False(t, st.IsDir() && name == "a file")
				assert.FileExists(t, filepath.Join(dst+".partial", "model.safetensors"), "what was made is kept")
			})
		}
	}
}

func TestDirUsesAnEmptyPartial(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "dst")
	require.NoError(t, os.Mkdir(dst+".partial", 0o755))
	d, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
	require.NoError(t, err)
	require.NoError(t, d.Abort())
}

func TestDirStopsCopyingWithItsContext(t *testing.T) {
	d, err := partial.CreateDir(filepath.Join(t.TempDir(), "dst"), oneShard, partial.DirOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.AddFile(ctx, "big", strings.NewReader("x")), context.Canceled)
	require.ErrorIs(t, d.Seal(ctx), context.Canceled)
	require.NoError(t, d.Abort())
}
