package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/space"
)

// A size that no disk here has is refused before anything is measured, also where more may be freed
// on demand; one that may fit is tried there, with a warning.
func TestBenchRefusesATooLargeSize(t *testing.T) {
	dir, s := here(t)
	for _, purgeable := range [][]string{nil, {s.Type}} {
		under(t, space.Rules{Purgeable: purgeable, Reserve: 5e9, Part: 50})
		_, err := measure(t.Context(), benchOptions{Dir: dir, Size: 4 << 60 / 10 * 9, Device: "cpu", Begin: func(what string) { t.Errorf("measures %s", what) }})
		require.ErrorIs(t, err, metalcast.ErrNoSpace)
		assert.ErrorContains(t, err, "are needed")
		assert.Equal(t, "a smaller --size, or --dir on another disk", metalcast.Hint(err))
	}
	under(t, space.Rules{Purgeable: []string{s.Type}, Reserve: 5e9, Part: 50})
	var warned string
	require.NoError(t, space.Check(filepath.Join(dir, "x"), s.Free, func(m string) { warned = m }))
	assert.Contains(t, warned, "are needed")
	under(t, space.Rules{})
	require.ErrorIs(t, space.Check(filepath.Join(dir, "x"), s.Free+64<<20, nil), metalcast.ErrNoSpace)
}

// A disk that is full after all ends bench as it ends a conversion, whatever it was writing.
func TestBenchOnAFullDisk(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EFBIG, syscall.EDQUOT} {
		full := &fs.PathError{Op: "write", Path: "x", Err: errno}
		for _, err := range []error{full, errors.Join(full), fmt.Errorf("copy: %w", full)} {
			err = explainFull("/dir", err)
			require.ErrorIs(t, err, metalcast.ErrNoSpace)
			assert.ErrorContains(t, err, "/dir: ")
			assert.Equal(t, "a smaller --size, or --dir on another disk", metalcast.Hint(err))
		}
	}
	require.NoError(t, explainFull("/dir", nil))
	require.EqualError(t, explainFull("/dir", errors.New("other")), "other")
}

// under has a test run by another system's rules.
func under(t *testing.T, r space.Rules) {
	t.Helper()
	old := space.System
	t.Cleanup(func() { space.System = old })
	space.System = r
}

// here is the space of a new directory.
func here(t *testing.T) (dir string, s space.Disk) {
	t.Helper()
	dir = t.TempDir()
	s, err := space.Of(filepath.Join(dir, "dst"))
	require.NoError(t, err)
	return dir, s
}
