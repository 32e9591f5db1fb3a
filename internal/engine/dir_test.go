//go:build unix

package engine_test

import (
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
		require.NoError(t, d.Seal())
		require.NoError(t, d.AddFile("config.json", strings.NewReader("{}")))
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
		require.NoError(t, os.WriteFile(filepath.Join(dst+".partial", name), []byte("old"), 0o644))
	}
	_, err := engine.CreateDir(dst, oneShard, false)
	require.ErrorContains(t, err, "is what an interrupted run left")
	assert.FileExists(t, filepath.Join(dst+".partial", "old"))
	d, err := engine.CreateDir(dst, oneShard, true)
	require.NoError(t, err)
	assert.NoFileExists(t, filepath.Join(dst+".partial", "old"))
	require.NoError(t, d.Abort())
}

func TestDirCommitNeverReplacesAnything(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "dst")
	d, err := engine.CreateDir(dst, oneShard, false)
	require.NoError(t, err)
	require.NoError(t, d.Seal())
	require.NoError(t, os.Mkdir(dst, 0o755)) // by somebody else, meanwhile
	require.NoError(t, os.WriteFile(filepath.Join(dst, "theirs"), nil, 0o644))
	require.ErrorContains(t, d.Commit(), "was filled by something else meanwhile")
	assert.FileExists(t, filepath.Join(dst, "theirs"))
	assert.FileExists(t, filepath.Join(dst+".partial", "model.safetensors"))
}
