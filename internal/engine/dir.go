package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/plan"
)

// lockName marks a directory as metalcast's work in progress. The lock on it ends with the process that holds it.
const (
	lockName = plan.LockName
	lockText = "a conversion by metalcast is in progress here, or was interrupted\n"
)

// Dir is the Sink that makes a checkpoint directory. All work happens in DST.partial; DST appears, complete and synced, by one rename. Until a
// shard's data is synced its first 8 bytes stay zero, so that no reader takes it for a safetensors file.
type Dir struct {
	path    string // of DST
	empty   bool   // DST was an empty directory
	partial string
	lock    *flock.Flock
	shards  []plan.Shard
	files   []*os.File
	pacers  []pacer
}

// CreateDir makes DST.partial with all shards at their real size. With restart, what an interrupted run left there goes first. dst's parent must be resolved and exist.
func CreateDir(dst string, shards []plan.Shard, restart bool) (*Dir, error) {
	empty, err := newdir.Free(dst)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: dst, empty: empty, partial: newdir.Partial(dst), shards: shards, pacers: make([]pacer, len(shards))}
	if err := d.begin(restart); err != nil {
		return nil, err
	}
	for i := range shards {
		if err := d.createShard(i); err != nil {
			return nil, errors.Join(d.explain(shards[i].Name, err), d.Abort())
		}
	}
	return d, nil
}

// begin makes DST.partial and locks it. What it made goes again if it fails.
func (d *Dir) begin(restart bool) (err error) {
	err = os.Mkdir(d.partial, 0o755)
	found := errors.Is(err, fs.ErrExist)
	if err != nil && !found {
		return newdir.Explain(d.partial, err)
	}
	marker := filepath.Join(d.partial, lockName)
	left := false
	if found {
		if left, err = leftBehind(d.partial); err != nil {
			return err
		}
	}
	d.lock = flock.New(marker)
	ok, err := d.lock.TryLock()
	if err == nil && !ok {
		return fault.New(nil, d.partial, "another metalcast is writing there")
	}
	if err == nil && left && !restart {
		d.lock.Close()
		return fault.New(nil, d.partial, "was left by an interrupted run").WithHint("--restart removes it and begins anew")
	}
	if err == nil {
		err = d.clear()
	}
	if err == nil {
		err = os.WriteFile(marker, []byte(lockText), 0o644)
	}
	if err != nil {
		d.lock.Close()
		if !left { // what is left of a run keeps its marker
			os.Remove(marker)
			os.Remove(d.partial) // if it is empty
		}
		return newdir.Explain(d.partial, err)
	}
	return nil
}

// leftBehind tells whether an existing DST.partial is a run's leftover. One that is neither that nor empty is refused.
func leftBehind(partial string) (bool, error) {
	entries, err := os.ReadDir(partial)
	if err != nil {
		return false, newdir.Explain(partial, err)
	}
	if len(entries) == 0 {
		return false, nil
	}
	text, err := os.ReadFile(filepath.Join(partial, lockName))
	if err != nil || string(text) != lockText && !(len(text) == 0 && len(entries) == 1) {
		return false, fault.New(nil, partial, "exists and was not made by metalcast").WithHint("remove it, or choose another destination")
	}
	return true, nil
}

// clear empties DST.partial, but for the lock.
func (d *Dir) clear() error {
	entries, err := os.ReadDir(d.partial)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockName {
			if err := os.RemoveAll(filepath.Join(d.partial, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Dir) createShard(i int) error {
	s := &d.shards[i]
	f, err := os.OpenFile(filepath.Join(d.partial, s.Name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	d.files = append(d.files, f)
	if err := preallocate(f, s.Size); err != nil {
		return err
	}
	_, err = f.WriteAt(s.Header[8:], 8)
	return err
}

func (d *Dir) explain(name string, err error) error {
	return newdir.Explain(filepath.Join(d.partial, name), err)
}

// WriteAt writes p to a shard at off.
func (d *Dir) WriteAt(shard int, p []byte, off int64) error {
	f := d.files[shard]
	if _, err := f.WriteAt(p, off); err != nil {
		return d.explain(d.shards[shard].Name, err)
	}
	if err := d.pacers[shard].wrote(f, off, int64(len(p))); err != nil {
		return d.explain(d.shards[shard].Name, err)
	}
	return nil
}

// Seal syncs every shard's data and only then writes the 8 bytes that make it a safetensors file. The file can be read back from then on.
func (d *Dir) Seal(ctx context.Context) error {
	for i, f := range d.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := newdir.FlushFailure(f.Sync())
		if err == nil {
			_, err = f.WriteAt(d.shards[i].Header[:8], 0)
		}
		if err == nil {
			err = newdir.FlushFailure(f.Sync())
		}
		if err != nil { // pages may be lost; the system reports that once and a second sync would lie
			return d.explain(d.shards[i].Name, err)
		}
	}
	return nil
}

// Forget drops the shards from the page cache, so that reading them back reads the disk.
func (d *Dir) Forget() {
	for i, f := range d.files {
		forget(f, d.shards[i].Size)
	}
}

// ReadAt reads a shard back.
func (d *Dir) ReadAt(shard int, p []byte, off int64) error {
	_, err := d.files[shard].ReadAt(p, off)
	return err
}

// AddFile writes a file beside the shards, synced, from a reader. Its name may lie in a directory, which is made.
func (d *Dir) AddFile(ctx context.Context, name string, from io.Reader) error {
	path := filepath.Join(d.partial, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return d.explain(name, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return d.explain(name, err)
	}
	defer f.Close()
	if _, err := io.Copy(f, untilDone{ctx, from}); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return d.explain(name, err)
	}
	if err := newdir.FlushFailure(f.Sync()); err != nil {
		return d.explain(name, err)
	}
	return nil
}

// Open opens a file of DST.partial for reading.
func (d *Dir) Open(name string) (*os.File, error) { return os.Open(filepath.Join(d.partial, name)) }

// untilDone reads until its context ends.
type untilDone struct {
	ctx  context.Context
	from io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

// Commit makes DST appear: everything in DST.partial is synced by now, one exclusive rename follows. Where it fails DST.partial stays, complete.
func (d *Dir) Commit() error {
	defer d.lock.Close()
	if err := d.closeFiles(); err != nil {
		return newdir.Explain(d.partial, err)
	}
	if err := newdir.Publish(d.partial, d.path, d.empty); err != nil {
		return err
	}
	// Last, so that a leftover is never without its marker.
	if err := os.Remove(filepath.Join(d.path, lockName)); err != nil {
		return newdir.Explain(d.path, err)
	}
	return nil
}

// Abort removes DST.partial and everything in it.
func (d *Dir) Abort() error {
	var left error
	if err := os.RemoveAll(d.partial); err != nil {
		left = &fault.Error{Where: d.partial, What: "cannot be removed", Err: newdir.Cause(err)}
	}
	return errors.Join(d.closeFiles(), left, d.lock.Close())
}

func (d *Dir) closeFiles() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	d.files = nil
	return errors.Join(errs...)
}
