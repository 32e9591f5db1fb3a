package partial

import (
	"errors"
	"os"
	"reflect"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/metalcast/metalcast/internal/engine"
)

// forget drops a file from the page cache.
func forget(f *os.File, size int64) { _ = unix.Fadvise(int(f.Fd()), 0, size, unix.FADV_DONTNEED) }

const (
	// The alignment and unit of O_DIRECT, in the file and in memory: devices want 512 or 4096.
	block = engine.Page
	chunk = 4 << 20 // bytes per call, so that the device has several in its queue
	depth = 8       // concurrent calls
)

// writer writes to a shard. Long extents bypass the page cache (O_DIRECT): copying them into it and
// maintaining its pages took more CPU time than everything else (docs/performance.md). Ends that do
// not fill a block, and data aligned differently in memory than in the file, are paced.
type writer struct {
	pacer   pacer
	refused bool // the file system has no O_DIRECT, or wants larger blocks
}

func (w *writer) write(f *os.File, extents []engine.Extent) error {
	var direct []engine.Extent
	for _, x := range extents {
		first, last := len(x.Data), len(x.Data) // of its whole blocks
		if !w.refused && len(x.Data) >= engine.LongRun && (int64(reflect.ValueOf(x.Data).Pointer())-x.Off)&(block-1) == 0 {
			first, last = blocks(x.Off, len(x.Data), block)
			direct = append(direct, engine.Extent{Shard: x.Shard, Off: x.Off + int64(first), Data: x.Data[first:last]})
		}
		// A buffered write waits for direct ones, so it comes first.
		if err := w.pacer.write(f, x.Data[:first], x.Off); err != nil {
			return err
		}
		if err := w.pacer.write(f, x.Data[last:], x.Off+int64(last)); err != nil {
			return err
		}
	}
	if direct == nil {
		return nil
	}
	var err error
	if w.refused, err = writeDirect(f, direct); !w.refused {
		return err
	}
	for _, x := range direct {
		if err := w.pacer.write(f, x.Data, x.Off); err != nil {
			return err
		}
	}
	return nil
}

// writeDirect writes whole blocks, several chunks concurrently, or reports that the file system
// refuses to.
func writeDirect(f *os.File, extents []engine.Extent) (refused bool, err error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return false, err
	}
	refuses := func(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) }
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_DIRECT); err != nil {
		return refuses(err), err
	}
	var g errgroup.Group
	g.SetLimit(depth)
	for _, x := range extents {
		off := x.Off
		for piece := range slices.Chunk(x.Data, chunk) {
			at := off
			g.Go(func() error {
				_, err := f.WriteAt(piece, at)
				return err
			})
			off += int64(len(piece))
		}
	}
	written := g.Wait()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags); err != nil {
		return false, err
	}
	return refuses(written), written
}

// Pacing: large extents are written in chunks. Writeback of a chunk starts at once, while the next
// is being copied; beyond a limit the oldest is awaited and dropped from the page cache. An unpaced
// writer fills memory with dirty pages and is then throttled: three times slower on large models
// (docs/performance.md).
const (
	paceLeast  = 64 << 10 // smaller chunks are left to the system
	paceFlight = 64 << 20 // bytes in flight per shard
)

type span struct{ off, n int64 }

// pacer keeps a shard's chunks whose writeback has started, oldest first.
type pacer struct {
	queue  []span
	flight int64
}

func (p *pacer) write(f *os.File, b []byte, off int64) error {
	for piece := range slices.Chunk(b, chunk) {
		if _, err := f.WriteAt(piece, off); err != nil {
			return err
		}
		if err := p.wrote(f, off, int64(len(piece))); err != nil {
			return err
		}
		off += int64(len(piece))
	}
	return nil
}

func (p *pacer) wrote(f *os.File, off, n int64) error {
	if n < paceLeast {
		return nil
	}
	fd := int(f.Fd())
	if err := syncRange(fd, span{off, n}, unix.SYNC_FILE_RANGE_WRITE); err != nil {
		return err
	}
	p.queue = append(p.queue, span{off, n})
	p.flight += n
	for p.flight > paceFlight {
		s := p.queue[0]
		p.queue = append(p.queue[:0], p.queue[1:]...)
		p.flight -= s.n
		if err := syncRange(fd, s, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER); err != nil {
			return err
		}
		_ = unix.Fadvise(fd, s.off, s.n, unix.FADV_DONTNEED) // advice
	}
	return nil
}

func syncRange(fd int, s span, flags int) error {
	for {
		err := unix.SyncFileRange(fd, s.off, s.n, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ESPIPE) || errors.Is(err, unix.EINVAL):
			return nil // there is no pacing on this file system
		}
		return err
	}
}
