//go:build unix

package partial_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/plan"
)

// A file system without locks, such as SMB and some NFS and FUSE ones, causes one warning. Any
// other error of the lock is an error.
func TestDirWithoutLocks(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOLCK, syscall.ENOSYS} {
		f := newMemFS()
		f.noLock = errno
		var warnings []string
		o := partial.DirOptions{FS: partial.LockErrors{FS: f}, Warn: func(m string) { warnings = append(warnings, m) }}
		d, err := partial.CreateDir("/out/dst", oneShard, o)
		require.NoError(t, err, errno)
		assert.Equal(t, []string{"/out/dst.partial: its file system has no locks; let no other metalcast write there meanwhile"}, warnings)
		require.NoError(t, d.Abort())
		assert.Nil(t, f.names["/out/dst.partial"])
		o.Warn = nil
		d, err = partial.CreateDir("/out/dst", oneShard, o)
		require.NoError(t, err)
		require.NoError(t, d.Abort())
	}
	f := newMemFS()
	f.noLock = syscall.EACCES
	_, err := partial.CreateDir("/out/dst", oneShard, partial.DirOptions{FS: partial.LockErrors{FS: f}})
	require.ErrorIs(t, err, syscall.EACCES)
}

// If the file system would write what a shard grows by as zeros, the shard is made without its
// size, with one warning. When resumed it is accepted with any size between what the journal says
// it holds and its full size.
func TestDirWhereFilesGrow(t *testing.T) {
	m := smallMaking(t)
	want := newMemFS()
	require.NoError(t, m.run(t.Context(), want))
	f := newMemFS()
	f.grows = true
	var warnings []string
	o := partial.DirOptions{FS: f, State: []byte(`{"a":1}`), Every: 40 << 10, Warn: func(m string) { warnings = append(warnings, m) }}
	d, err := partial.CreateDir("/out/dst", m.plan, o)
	require.NoError(t, err)
	require.Greater(t, len(m.plan.Shards), 1)
	for _, s := range m.plan.Shards {
		assert.Len(t, f.names["/out/dst.partial/"+s.Name].data, len(s.Header), "no more than the header")
	}
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], "/out/dst.partial: its file system has no files with holes, such as exFAT")
	require.NoError(t, d.Abort())

	// Cut in the middle, with the first shard written and the last not.
	f = newMemFS()
	f.grows, f.failAt, f.fail = true, want.ops*2/3, errPower
	require.ErrorIs(t, m.run(t.Context(), f), errPower)
	f.dead, f.failAt = false, 0
	release := func() {
		for _, n := range f.names {
			n.locked = false
		}
	}
	release()
	require.Contains(t, string(f.names["/out/dst.partial/metalcast.journal"].data), `"done":[[`)
	first := f.names["/out/dst.partial/"+m.plan.Shards[0].Name]
	whole := bytes.Clone(first.data)
	first.data = first.data[:len(m.plan.Shards[0].Header)]
	require.ErrorContains(t, m.run(t.Context(), f), "bytes long, the interrupted run made it of")
	release()
	first.data = append(whole, make([]byte, m.plan.Shards[0].Size)...)
	require.ErrorContains(t, m.run(t.Context(), f), "bytes long, the interrupted run made it of")
	release()
	first.data = whole
	require.NoError(t, m.run(t.Context(), f))
	require.True(t, f.check(t, want))
}

// What macOS leaves in any directory that somebody looks at does not count: neither in DST, nor in
// a DST.partial that a run had no time to mark; and it never gets in the way.
func TestDirOverlooksWhatMacOSLeaves(t *testing.T) {
	leave := func(dir string) {
		for _, name := range []string{".DS_Store", "._x", "._.DS_Store"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("Bud1"), 0o644))
		}
	}
	dst := filepath.Join(t.TempDir(), "dst")
	require.NoError(t, os.Mkdir(dst, 0o700))
	leave(dst)
	require.NoError(t, os.Mkdir(dst+".partial", 0o755))
	leave(dst + ".partial")
	d, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
	require.NoError(t, err)
	require.NoError(t, d.Seal(t.Context()))
	assert.FileExists(t, filepath.Join(dst, ".DS_Store"), "until DST is made")
	leave(dst + ".partial")
	require.NoError(t, d.Commit())
	assert.FileExists(t, filepath.Join(dst, "model.safetensors"))

	// An abort, with a visit at the last moment.
	dst += "2"
	d, err = partial.CreateDir(dst, oneShard, partial.DirOptions{FS: visited{partial.OS{}, func() { leave(dst + ".partial") }}})
	require.NoError(t, err)
	require.NoError(t, d.Abort())
	assert.NoDirExists(t, dst+".partial")

	// What else is there is somebody's, and so are directories by those names.
	for _, name := range []string{".localized", "Icon\r", "_.x", ".DS_Store2", "DS_Store"} {
		dst := filepath.Join(t.TempDir(), "dst")
		require.NoError(t, os.Mkdir(dst, 0o755))
		leave(dst)
		require.NoError(t, os.WriteFile(filepath.Join(dst, name), nil, 0o644))
		_, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
		require.ErrorContains(t, err, "exists and is not empty", "%q", name)
		assert.FileExists(t, filepath.Join(dst, ".DS_Store"), "nothing is removed")
	}
	for _, name := range []string{".DS_Store", "._x"} {
		dst := filepath.Join(t.TempDir(), "dst")
		require.NoError(t, os.MkdirAll(filepath.Join(dst, name), 0o755))
		_, err := partial.CreateDir(dst, oneShard, partial.DirOptions{})
		require.ErrorContains(t, err, "exists and is not empty")
		require.NoError(t, os.RemoveAll(dst))
		require.NoError(t, os.MkdirAll(filepath.Join(dst+".partial", name), 0o755))
		_, err = partial.CreateDir(dst, oneShard, partial.DirOptions{})
		require.ErrorContains(t, err, "was not made by metalcast")
	}

	// A file that comes while the work goes on keeps its directory, and what lies beside it.
	dst = filepath.Join(t.TempDir(), "dst")
	require.NoError(t, os.Mkdir(dst, 0o755))
	leave(dst)
	d, err = partial.CreateDir(dst, oneShard, partial.DirOptions{})
	require.NoError(t, err)
	require.NoError(t, d.Seal(t.Context()))
	require.NoError(t, os.WriteFile(filepath.Join(dst, "mine"), nil, 0o644))
	require.ErrorContains(t, d.Commit(), "was taken by something else meanwhile")
	for _, name := range []string{"mine", ".DS_Store", "._x"} {
		assert.FileExists(t, filepath.Join(dst, name))
	}
}

// visited is a file system whose user looks at DST.partial whenever its marker has been removed.
type visited struct {
	partial.FS
	look func()
}

func (v visited) Remove(name string) error {
	err := v.FS.Remove(name)
	if filepath.Base(name) == plan.LockName {
		v.look()
	}
	return err
}
