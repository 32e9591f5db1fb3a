package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/fault"
)

// onMac is how sources are read on a Mac, whatever this machine is, with less that is worth a read.
var onMac = pieces{page: 16 << 10, flight: 4, least: 64 << 10}

// recorder is a file that remembers how it was read.
type recorder struct {
	io.ReaderAt
	mu      sync.Mutex
	reads   [][2]int64 // offset and length
	into    []*byte    // the first byte of the memory
	now     int
	most    int             // reads side by side
	arrived *sync.WaitGroup // if set, reads wait for each other: done by each of the first
	broken  map[int64]error // by the offset that a read begins at
}

func (r *recorder) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	r.reads = append(r.reads, [2]int64{off, int64(len(p))})
	r.into = append(r.into, &p[0])
	r.now++
	r.most = max(r.most, r.now)
	first := len(r.reads) <= 4
	r.mu.Unlock()
	if r.arrived != nil && first {
		r.arrived.Done()
		r.arrived.Wait()
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now--
	}()
	if err := r.broken[off]; err != nil {
		return 0, err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// Whatever a read begins and ends at, all bytes come, each by one read, straight to where they
// belong; what is read past the cache begins and ends at whole pages.
func TestPiecesReadEveryByteOnce(t *testing.T) {
	file := make([]byte, 400<<10+12345)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(file)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		off := rng.Int64N(int64(len(file)))
		n := rng.Int64N(int64(len(file)) - off + 1)
		switch i % 4 { // alignments of both ends
		case 1:
			off &^= onMac.page - 1
		case 2:
			n = max(((off+n)&^(onMac.page-1))-off, 0)
		case 3:
			off &^= onMac.page - 1
			n &^= onMac.page - 1
		}
		if n == 0 {
			continue
		}
		r := &recorder{ReaderAt: bytes.NewReader(file)}
		p := make([]byte, n)
		got, err := onMac.readAt(r, p, off)
		require.True(t, err == nil || errors.Is(err, io.EOF) && off+n == int64(len(file)), err)
		require.EqualValues(t, n, got)
		require.True(t, bytes.Equal(file[off:off+n], p), "%d bytes at %d", n, off)
		require.LessOrEqual(t, r.most, onMac.flight)
		order := make([]int, len(r.reads))
		for k := range order {
			order[k] = k
		}
		slices.SortFunc(order, func(a, b int) int { return int(r.reads[a][0] - r.reads[b][0]) })
		at, cached := off, int64(0)
		for _, k := range order {
			require.Equal(t, at, r.reads[k][0])
			require.Same(t, &p[at-off], r.into[k], "no buffer between")
			if at%onMac.page != 0 || r.reads[k][1]%onMac.page != 0 {
				cached += r.reads[k][1]
			}
			at += r.reads[k][1]
		}
		require.Equal(t, off+n, at)
		require.LessOrEqual(t, len(r.reads), onMac.flight+2)
		if n >= onMac.least+2*onMac.page {
			require.Less(t, cached, 2*onMac.page, "%d bytes at %d: all but the ends goes past the cache", n, off)
		} else if n < onMac.least {
			require.Len(t, r.reads, 1, "%d bytes at %d: what is short is one read", n, off)
		}
	}
}

// Four reads are under way at once, and never more.
func TestPiecesAreReadSideBySide(t *testing.T) {
	r := &recorder{ReaderAt: bytes.NewReader(make([]byte, 2<<20)), arrived: new(sync.WaitGroup)}
	r.arrived.Add(4) // a reader with fewer in flight would wait for ever
	n, err := onMac.readAt(r, make([]byte, 1<<20), 4096+8)
	require.NoError(t, err)
	assert.Equal(t, 1<<20, n)
	assert.Equal(t, 4, r.most)
	assert.Len(t, r.reads, 6)
}

// A file that ends early and a read that fails are reported as by one read: the bytes before, and
// the error that they met first.
func TestPiecesGiveTheFirstError(t *testing.T) {
	const off, n = 4096 + 8, 1 << 20
	file := make([]byte, off+n)
	for _, end := range []int64{off, off + 5, 16 << 10, 16<<10 + 1, 300 << 10, 700<<10 + 3, off + n - 1} {
		want := make([]byte, n)
		wantN, wantErr := bytes.NewReader(file[:end]).ReadAt(want, off)
		got, err := onMac.readAt(bytes.NewReader(file[:end]), make([]byte, n), off)
		assert.Equal(t, wantN, got, "a file of %d bytes", end)
		assert.Equal(t, wantErr, err, "a file of %d bytes", end)
	}
	ends := onMac.cut(off, n)
	for i := range ends {
		begin := int64(0)
		if i > 0 {
			begin = ends[i-1]
		}
		r := &recorder{ReaderAt: bytes.NewReader(file), broken: map[int64]error{}}
		for k := i; k < len(ends); k++ { // all that follow fail too
			at := int64(0)
			if k > 0 {
				at = ends[k-1]
			}
			r.broken[off+at] = fmt.Errorf("piece %d", k)
		}
		got, err := onMac.readAt(r, make([]byte, n), off)
		assert.EqualValues(t, begin, got)
		assert.EqualError(t, err, fmt.Sprintf("piece %d", i))
	}
}

// A source whose reads are cut says of a shard that became shorter what it says otherwise.
func TestSourceReadInPieces(t *testing.T) {
	data := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{4}).Read(data)
	path := t.TempDir() + "/model.safetensors"
	require.NoError(t, os.WriteFile(path, data, 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	s := &Source{shards: []Shard{{Name: "model.safetensors", Size: int64(len(data))}}, files: []*os.File{f}}
	old := uncachedReads
	t.Cleanup(func() { uncachedReads = old })
	uncachedReads = onMac
	require.Zero(t, s.reads, "reads that may come twice leave reading ahead to the system")
	s.Once()
	require.Equal(t, onMac, s.reads)
	p := make([]byte, 900<<10)
	require.NoError(t, s.ReadAt(0, p, 1001))
	assert.True(t, bytes.Equal(data[1001:][:len(p)], p))
	require.NoError(t, os.Truncate(path, 500<<10))
	err = s.ReadAt(0, p, 1001)
	require.ErrorIs(t, err, fault.ErrIncomplete)
	assert.EqualError(t, err, "model.safetensors: ends at byte 512000, it was longer when its header was read")
	require.NoError(t, s.Close())
	err = s.ReadAt(0, p, 1001)
	require.ErrorIs(t, err, os.ErrClosed)
	assert.ErrorContains(t, err, "model.safetensors: read: ")
}
