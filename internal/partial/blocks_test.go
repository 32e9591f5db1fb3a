package partial

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/engine"
)

// writes remembers what was written where; it fails at the offsets it is told.
type writes struct {
	file  []byte
	calls [][2]int // offset and length
	fail  int      // the offset that fails; 0: none
}

func (w *writes) WriteAt(p []byte, off int64) (int, error) {
	w.calls = append(w.calls, [2]int{int(off), len(p)})
	if w.fail > 0 && int(off) == w.fail {
		return 0, errors.New("broken")
	}
	return copy(w.file[off:], p), nil
}

// As on a Mac: a long extent that begins off the page goes past the cache from its first page on.
func TestLongExtentsAreWrittenFromTheirFirstPage(t *testing.T) {
	const p = directPage
	for _, tt := range []struct {
		name   string
		off, n int
		want   [][2]int
	}{
		{"whole pages", 2 * p, engine.LongRun + p, [][2]int{{2 * p, engine.LongRun + p}}},
		{"an odd end", 0, engine.LongRun + 5, [][2]int{{0, engine.LongRun}, {engine.LongRun, 5}}},
		{"an odd beginning", p + 16, engine.LongRun + p - 16, [][2]int{{p + 16, p - 16}, {2 * p, engine.LongRun}}},
		{"begins at 4 KiB", p + 4096, engine.LongRun, [][2]int{{p + 4096, p - 4096}, {2 * p, engine.LongRun - p}, {engine.LongRun + p, 4096}}},
		{"both ends", 1, engine.LongRun, [][2]int{{1, p - 1}, {p, engine.LongRun - p}, {engine.LongRun, 1}}},
		{"short", 1, engine.LongRun - 1, [][2]int{{1, engine.LongRun - 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := make([]byte, tt.n)
			_, _ = rand.NewChaCha8([32]byte{9}).Read(data)
			w := &writes{file: make([]byte, tt.off+tt.n)}
			require.NoError(t, writeFromPage(w, []engine.Extent{{Off: int64(tt.off), Data: data}, {Off: 0, Data: nil}}, p))
			assert.Equal(t, tt.want, w.calls)
			assert.True(t, bytes.Equal(data, w.file[tt.off:]))
			for i, c := range tt.want { // nothing is written after what failed
				if c[0] == 0 {
					continue
				}
				w := &writes{file: make([]byte, tt.off+tt.n), fail: c[0]}
				require.EqualError(t, writeFromPage(w, []engine.Extent{{Off: int64(tt.off), Data: data}}, p), "broken")
				assert.Len(t, w.calls, i+1)
			}
		})
	}
}

func TestBlocks(t *testing.T) {
	for off := range int64(40) {
		for n := range 40 {
			first, last := blocks(off, n, 8)
			want := 0 // whole blocks, counted one by one
			for b := int64(0); b < 96; b += 8 {
				if b >= off && b+8 <= off+int64(n) {
					want += 8
				}
			}
			require.Equal(t, want, last-first, "%d bytes at %d", n, off)
			if want > 0 {
				require.Zero(t, (off+int64(first))%8)
			}
		}
	}
}
