package engine

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// preallocate gives a file its real size on disk, so that a full disk shows before the first byte. Where the file system cannot, the size alone.
func preallocate(f *os.File, size int64) error {
	var err error
	for {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return f.Truncate(size)
	}
	return err
}

// forget drops a file from the page cache.
func forget(f *os.File, size int64) { _ = unix.Fadvise(int(f.Fd()), 0, size, unix.FADV_DONTNEED) }

// Pacing: what is large is written in pieces. Writeback of each starts at once, while the next is copied, and past a bound the oldest is awaited and dropped from the
// page cache. An unpaced writer fills memory with dirty pages and is then throttled: three times slower on large models (docs/performance.md).
const (
	paceLeast  = 64 << 10 // smaller pieces are left to the system
	paceMost   = 4 << 20
	paceFlight = 64 << 20 // bytes in flight for each shard
)

type span struct{ off, n int64 }

// pacer keeps a shard's pieces whose writeback has started, oldest first.
type pacer struct {
	queue  []span
	flight int64
}

func (p *pacer) write(f *os.File, b []byte, off int64) (written int, err error) {
	for piece := range slices.Chunk(b, paceMost) {
		n, err := f.WriteAt(piece, off)
		written += n
		if err == nil {
			err = p.wrote(f, off, int64(n))
		}
		if err != nil {
			return written, err
		}
		off += int64(n)
	}
	return written, nil
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
			return nil // pacing is not to be had here
		}
		return err
	}
}
