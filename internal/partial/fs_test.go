//go:build unix

package partial

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// LockErrors is a file system whose lock answers as OS would with the same errno.
type LockErrors struct{ FS }

// Lock implements FS.
func (l LockErrors) Lock(name string) (func() error, bool, error) {
	unlock, ok, err := l.FS.Lock(name)
	return unlock, ok, noLocks(err)
}

// A lack of disk space fails, unless the system may free some. If space cannot be asked for, a file
// just has its size.
func TestCreateWithoutRoom(t *testing.T) {
	for _, tt := range []struct {
		answer     error
		overcommit bool
		want       error
	}{
		{nil, false, nil},
		{nil, true, nil},
		{syscall.ENOSPC, false, syscall.ENOSPC},
		{syscall.ENOSPC, true, nil},
		{syscall.ENOTSUP, false, nil},
		{syscall.EOPNOTSUPP, false, nil},
		{syscall.ENOSYS, false, nil},
		{errors.ErrUnsupported, true, nil},
		{syscall.EIO, true, syscall.EIO},
		{syscall.EDQUOT, true, syscall.EDQUOT},
	} {
		asked := int64(0)
		o := OS{Overcommit: tt.overcommit, allocate: func(_ *os.File, size int64) error { asked = size; return tt.answer }}
		name := filepath.Join(t.TempDir(), "x")
		f, err := o.Create(name, 12345)
		assert.EqualValues(t, 12345, asked)
		require.ErrorIs(t, err, tt.want, "%v", tt)
		if tt.want != nil {
			continue
		}
		require.NoError(t, f.Close())
		st, err := os.Stat(name)
		require.NoError(t, err)
		assert.EqualValues(t, 12345, st.Size(), "%v", tt)
	}
}
