package partial

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
)

// Write implements Sink.
func (d *Dir) Write(extents []engine.Extent) error {
	return d.durably(func() error { return d.write(extents) })
}

// durably remembers a failure: pages may be lost, which the system reports only once. A later sync
// would prove nothing, so there is no save point after a failure.
func (d *Dir) durably(work func() error) error {
	err := work()
	d.broken = d.broken || err != nil
	return err
}

func (d *Dir) write(extents []engine.Extent) error {
	for len(extents) > 0 {
		shard, n := extents[0].Shard, 0
		for n < len(extents) && extents[n].Shard == shard {
			d.unsafe += int64(len(extents[n].Data))
			n++
		}
		d.touched[shard] = true
		if err := d.files[shard].WriteExtents(extents[:n]); err != nil {
			return d.explain(d.plan.Shards[shard].Name, err)
		}
		extents = extents[n:]
	}
	return nil
}

// Done implements Keeper. Now and then it makes a save point.
func (d *Dir) Done(pieces []int32, c *engine.Counts) error {
	for _, i := range pieces {
		d.done.Add(i)
	}
	d.counts = *c
	if d.unsafe < d.every {
		return nil
	}
	return d.save()
}

// save makes a save point: it syncs the shards written since the last one, and only then records in
// the journal what they hold.
func (d *Dir) save() error { return d.durably(d.sync) }

func (d *Dir) sync() error {
	for i, f := range d.files {
		if !d.touched[i] {
			continue
		}
		if err := f.Sync(); err != nil {
			return d.explain(d.plan.Shards[i].Name, err)
		}
		d.touched[i] = false
	}
	now := engine.Progress{Done: d.done.Ranges(len(d.plan.Pieces)), Counts: d.counts}
	line, err := json.Marshal(&engine.Progress{Done: now.Done, Counts: engine.Counts{Found: now.Found[len(d.progress.Found):], NVFP4: now.NVFP4}})
	if err == nil {
		err = d.journal.append(line)
	}
	if err != nil {
		return d.explain(journalName, err)
	}
	d.progress, d.unsafe = now, 0
	return nil
}

// Seal syncs the data of every shard, and only then writes the 8 bytes that make it a safetensors
// file. It can be read back from then on.
func (d *Dir) Seal(ctx context.Context) error {
	if err := d.save(); err != nil {
		return err
	}
	for i, f := range d.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := f.WriteAt(d.plan.Shards[i].Header[:8], 0)
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return d.explain(d.plan.Shards[i].Name, err)
		}
	}
	return nil
}

// Forget drops the shards from the page cache, so that reading them back reads the disk.
func (d *Dir) Forget() {
	for _, f := range d.files {
		f.Forget()
	}
}

// ReadAt reads a shard back.
func (d *Dir) ReadAt(shard int, p []byte, off int64) error {
	_, err := d.files[shard].ReadAt(p, off)
	return err
}

// AddFile writes and syncs a file beside the shards. Its name may include a directory, which is
// created.
func (d *Dir) AddFile(ctx context.Context, name string, from io.Reader) error {
	path := filepath.Join(d.partial, name)
	if dir := filepath.Dir(path); dir != d.partial {
		if err := d.fs.MkdirAll(dir); err != nil {
			return d.explain(name, err)
		}
	}
	f, err := d.fs.Create(path, 0)
	if err != nil {
		return d.explain(name, err)
	}
	_, err = io.Copy(&appender{f, 0}, untilDone{ctx, from})
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && filepath.Dir(path) != d.partial {
		err = d.fs.SyncDir(filepath.Dir(path))
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return d.explain(name, err)
}

// appender writes to the end of a file.
type appender struct {
	file File
	end  int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.file.WriteAt(p, a.end)
	a.end += int64(n)
	return n, err
}

// OpenFile opens a file of DST.partial for reading.
func (d *Dir) OpenFile(name string) (io.ReadCloser, error) {
	f, size, err := d.fs.Open(filepath.Join(d.partial, name))
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, 0, size), f}, nil
}

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

// Commit makes DST appear. Everything in DST.partial is synced by now; one exclusive rename
// follows. If it fails, DST.partial stays, complete; an error after the rename says that DST is
// complete.
func (d *Dir) Commit() error {
	if err := d.closeFiles(); err != nil {
		return errors.Join(newdir.Explain(d.partial, err), d.unlock())
	}
	done, err := d.fs.Publish(d.partial, d.path, d.empty)
	if !done {
		return errors.Join(err, d.unlock())
	}
	// The marker comes last, so that what is left is never without it.
	for _, name := range []string{journalName, lockName} {
		if failed := d.fs.Remove(filepath.Join(d.path, name)); failed != nil && err == nil {
			err = &fault.Error{Where: d.path, What: "is complete, but what the work left in it cannot be removed", Err: newdir.Cause(failed),
				Hint: "remove " + journalName + " and " + lockName + " by hand"}
		}
	}
	_ = d.fs.SyncDir(d.path) // otherwise the two may return after a power cut, which is harmless
	return errors.Join(err, d.unlock())
}

// Keep leaves DST.partial to be resumed, with everything written so far recorded in its journal;
// after a failed write or sync, with what the last save point recorded. It reports whether there is
// anything to resume; otherwise DST.partial is removed.
func (d *Dir) Keep() (bool, error) {
	var err error
	if !d.broken {
		err = d.save()
	}
	if len(d.progress.Done) == 0 {
		return false, errors.Join(err, d.Abort())
	}
	return true, errors.Join(err, d.close())
}

// Abort removes DST.partial with everything in it, the marker last. Files are closed first: network
// and FUSE file systems keep open files under another name.
func (d *Dir) Abort() error {
	closed := d.closeFiles()
	left := unlessGone(d.clear())
	remove := func(name string) {
		if left == nil {
			left = unlessGone(d.fs.Remove(name))
		}
	}
	remove(filepath.Join(d.partial, lockName))
	closed = errors.Join(closed, d.unlock())
	if left == nil {
		left = unlessGone(d.clear()) // macOS may have added something meanwhile
	}
	remove(d.partial)
	if left != nil {
		left = &fault.Error{Where: d.partial, What: "cannot be removed", Err: newdir.Cause(left)}
	}
	return errors.Join(closed, left)
}

// unlessGone returns err unless it says that the file does not exist: somebody else removed it.
func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d *Dir) close() error { return errors.Join(d.closeFiles(), d.unlock()) }

func (d *Dir) closeFiles() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	d.files = nil
	if d.journal != nil && d.journal.file != nil {
		errs = append(errs, d.journal.file.Close())
		d.journal.file = nil
	}
	return errors.Join(errs...)
}
