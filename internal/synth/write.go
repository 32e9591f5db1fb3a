package synth

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
)

const (
	// bytes made at a time, few enough to stay in the CPU's cache until they are written
	chunk       = 64 << 10
	writeBuffer = 4 << 20
	maxWriters  = 4
)

// inNewDir runs work in DST.partial and renames it to dst, which must be absent or an empty
// directory. After an error the partial directory is removed.
func inNewDir(dst string, work func(dir string) error) (err error) {
	empty, err := newdir.Free(dst)
	if err != nil {
		return err
	}
	partial := newdir.Partial(dst)
	switch err := newdir.Mkdir(partial, dst); {
	case errors.Is(err, fs.ErrExist):
		return fault.New(nil, partial, "already exists").WithHint("another metalcast is writing there, or an interrupted one left it: remove it, or choose another destination")
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(nil, filepath.Dir(dst), "no such directory").WithHint("mkdir -p %s", filepath.Dir(dst))
	case err != nil:
		return newdir.Explain(partial, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(partial))
		}
	}()
	if err := work(partial); err != nil {
		return err
	}
	_, err = newdir.Publish(partial, dst, empty)
	return err
}

// progress adds up the writers' progress.
type progress struct {
	mu          sync.Mutex
	report      func(done, total int64)
	done, total int64
}

func newProgress(report func(done, total int64), total int64) *progress {
	p := &progress{report: report, total: total}
	p.add(0)
	return p
}

func (p *progress) add(n int64) {
	if p.report == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.report(p.done, p.total)
}

// writeShards writes all shards, a few at a time.
func writeShards(ctx context.Context, dir string, shards []shard, seed uint64, p *progress) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), maxWriters))
	for i := range shards {
		s := &shards[i]
		g.Go(func() error {
			err := s.write(ctx, filepath.Join(dir, s.name), seed, p)
			if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return err
			}
			return newdir.Explain(s.name, err)
		})
	}
	return g.Wait()
}

func (s *shard) write(ctx context.Context, path string, seed uint64, p *progress) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, writeBuffer)
	if _, err := w.Write(s.header); err != nil {
		return err
	}
	buf := make([]byte, chunk)
	var sinceReport int64
	for i := range s.tensors {
		t := &s.tensors[i]
		c := newContent(seed, t)
		for left := t.Size(); left > 0; {
			if sinceReport >= writeBuffer {
				if err := ctx.Err(); err != nil {
					return err
				}
				p.add(sinceReport)
				sinceReport = 0
			}
			b := buf[:min(left, chunk)]
			c.fill(b)
			if _, err := w.Write(b); err != nil {
				return err
			}
			left -= int64(len(b))
			sinceReport += int64(len(b))
		}
	}
	p.add(sinceReport)
	return w.Flush()
}
