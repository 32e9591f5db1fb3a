//go:build unix

package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/plan"
)

var oneShard = []plan.Shard{{Name: "model.safetensors", Header: []byte("12345678{header}"), Size: 16 + 100}}

func TestDirAppearsWholeByOneRename(t *testing.T) {
	for _, exists := range []bool{false, true} {
		dst := filepath.Join(t.TempDir(), "dst")
		if exists { // an empty directory is as good as none
			require.NoError(t, os.Mkdir(dst, 0o755))
		}
		d, err := engine.CreateDir(dst, oneShard, false)
		require.NoError(t, err)
		shard := filepath.Join(dst+".partial", "model.safetensors")
		st, err := os.Stat(shard)
		require.NoError(t, err)
		assert.EqualValues(t, 116, st.Size(), "the real size at once")
		require.NoError(t, d.WriteAt(0, []byte(strings.Repeat("x", 100)), 16))
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

func TestDirAbortLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	d, err := engine.CreateDir(filepath.Join(parent, "dst"), oneShard, false)
	require.NoError(t, err)
	require.NoError(t, d.Abort())
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestDirRefuses(t *testing.T) {
	parent := t.TempDir()
	full := filepath.Join(parent, "full")
	require.NoError(t, os.Mkdir(full, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o644))
	_, err := engine.CreateDir(full, oneShard, false)
	require.ErrorContains(t, err, "full: exists and is not empty")
	file := filepath.Join(parent, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err = engine.CreateDir(file, oneShard, false)
	require.ErrorContains(t, err, "file: exists and is no directory")

	require.NoError(t, os.Mkdir(filepath.Join(parent, "a.partial"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(parent, "a.partial", "mine"), nil, 0o644))
	_, err = engine.CreateDir(filepath.Join(parent, "a"), oneShard, true)
	require.ErrorContains(t, err, "a.partial: exists and was not made by metalcast")
	assert.FileExists(t, filepath.Join(parent, "a.partial", "mine"))
}

func TestDirLocksOutASecondRun(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "dst")
	d, err := engine.CreateDir(dst, oneShard, false)
	require.NoError(t, err)
	_, err = engine.CreateDir(dst, oneShard, true)
	require.ErrorContains(t, err, "another metalcast is writing there")
	require.NoError(t, d.Abort())
}

func TestDirRestart(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "dst")
	require.NoError(t, os.Mkdir(dst+".partial", 0o755)) // as a killed run leaves it: the lock is free
	for _, name := range []string{"metalcast.lock", "model.safetensors", "old"} {
		require.NoError(t, os.WriteFile(filepath.Join(dst+".partial", name), []byte("a conversion by metalcast is in progress here, or was interrupted\n"), 0o644))
	}
	_, err := engine.CreateDir(dst, oneShard, false)
	require.ErrorContains(t, err, "was left by an interrupted run")
	assert.FileExists(t, filepath.Join(dst+".partial", "old"))
	d, err := engine.CreateDir(dst, oneShard, true)
	require.NoError(t, err)
	assert.NoFileExists(t, filepath.Join(dst+".partial", "old"))
	require.NoError(t, d.Abort())
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
				d, err := engine.CreateDir(dst, oneShard, false)
				require.NoError(t, err)
				require.NoError(t, d.Seal(t.Context()))
				if before {
					require.NoError(t, os.Remove(dst))
				}
				require.NoError(t, appear(dst))
				if err := d.Commit(); before && name == "an empty directory" { // nobody can tell it from the first
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
	d, err := engine.CreateDir(dst, oneShard, false)
	require.NoError(t, err)
	require.NoError(t, d.Abort())
}

func TestDirStopsCopyingWithItsContext(t *testing.T) {
	d, err := engine.CreateDir(filepath.Join(t.TempDir(), "dst"), oneShard, false)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.AddFile(ctx, "big", strings.NewReader("x")), context.Canceled)
	require.ErrorIs(t, d.Seal(ctx), context.Canceled)
	require.NoError(t, d.Abort())
}
