package metalcast

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A size that no disk here has is refused before anything is measured, also where more may be freed on demand; one that may fit is tried there, with a warning.
func TestBenchRefusesATooLargeSize(t *testing.T) {
	dir, s := here(t)
	for _, purgeable := range [][]string{nil, {s.fstype}} {
		under(t, spaceRules{purgeable: purgeable, reserve: 5e9, part: 50})
		_, err := Bench(t.Context(), BenchOptions{Dir: dir, Size: 4 << 60 / 10 * 9, Device: "cpu", Begin: func(what string) { t.Errorf("measures %s", what) }})
		require.ErrorIs(t, err, ErrNoSpace)
		assert.ErrorContains(t, err, "are needed")
		assert.Equal(t, "a smaller --size, or --dir on another disk", Hint(err))
	}
	under(t, spaceRules{purgeable: []string{s.fstype}, reserve: 5e9, part: 50})
	var warned string
	require.NoError(t, roomFor(dir, s.free, func(m string) { warned = m }))
	assert.Contains(t, warned, "are needed")
	under(t, spaceRules{})
	require.ErrorIs(t, roomFor(dir, s.free+64<<20, nil), ErrNoSpace)
}

// A disk that is full after all ends bench as it ends a conversion, whatever it was writing.
func TestBenchOnAFullDisk(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EFBIG, syscall.EDQUOT} {
		full := &fs.PathError{Op: "write", Path: "x", Err: errno}
		for _, err := range []error{full, errors.Join(full), fmt.Errorf("copy: %w", full)} {
			err = explainFull("/dir", err)
			require.ErrorIs(t, err, ErrNoSpace)
			assert.ErrorContains(t, err, "/dir: ")
			assert.Equal(t, "a smaller --size, or --dir on another disk", Hint(err))
		}
	}
	require.NoError(t, explainFull("/dir", nil))
	require.EqualError(t, explainFull("/dir", errors.New("other")), "other")
}
