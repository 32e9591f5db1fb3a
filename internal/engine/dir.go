package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/plan"
)

// lockName marks a directory as metalcast's work in progress. The lock on it ends with the process that holds it.
const lockName = "metalcast.lock"

// Dir is the Sink that makes a checkpoint directory. All work happens in DST.partial; DST appears, complete and synced, by one rename. Until a
// shard's data is synced its first 8 bytes stay zero, so that no reader takes it for a safetensors file.
type Dir struct {
	path    string // of DST
	partial string
	lock    *flock.Flock
	shards  []plan.Shard
	files   []*os.File
	pacers  []pacer
}

// CreateDir makes DST.partial with all shards at their real size. With restart, what an interrupted run left there goes first. dst's parent must be resolved and exist.
func CreateDir(dst string, shards []plan.Shard, restart bool) (*Dir, error) {
	if err := refuseExisting(dst); err != nil {
		return nil, err
	}
	d := &Dir{path: dst, partial: dst + ".partial", shards: shards, pacers: make([]pacer, len(shards))}
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

// refuseExisting allows dst to be absent or an empty directory that is no mount point.
func refuseExisting(dst string) error {
	st, err := os.Lstat(dst)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.IsDir():
		return fault.New(nil, dst, "exists and is no directory").WithHint("choose another destination, or remove it")
	}
	entries, err := os.ReadDir(dst)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fault.New(nil, dst, "exists and is not empty").WithHint("choose another destination, or remove it")
	}
	if parent, err := os.Stat(filepath.Dir(dst)); err == nil && device(parent) != device(st) {
		return fault.New(nil, dst, "is a mount point, which nothing can be renamed to").WithHint("choose a directory inside it")
	}
	return nil
}

// begin makes DST.partial and locks it.
func (d *Dir) begin(restart bool) error {
	err := os.Mkdir(d.partial, 0o755)
	left := errors.Is(err, fs.ErrExist)
	if err != nil && !left {
		return d.explain("", err)
	}
	marker := filepath.Join(d.partial, lockName)
	if left {
		if entries, err := os.ReadDir(d.partial); err != nil {
			return err
		} else if _, err := os.Lstat(marker); err != nil && len(entries) > 0 {
			return fault.New(nil, d.partial, "exists and was not made by metalcast").WithHint("remove it, or choose another destination")
		}
	}
	d.lock = flock.New(marker)
	switch ok, err := d.lock.TryLock(); {
	case err != nil:
		return d.explain("", err)
	case !ok:
		return fault.New(nil, d.partial, "another metalcast is writing there")
	}
	if !left {
		return nil
	}
	if !restart {
		d.lock.Close()
		return fault.New(nil, d.partial, "is what an interrupted run left").WithHint("--restart removes it and begins anew")
	}
	return d.clear()
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

// explain names the file and, where the disk is full, says so.
func (d *Dir) explain(name string, err error) error {
	where := filepath.Join(d.partial, name)
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	e := &fault.Error{Where: where, What: "cannot be written", Err: err}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		e.Kind = fault.ErrNoSpace
	}
	return e
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
func (d *Dir) Seal() error {
	for i, f := range d.files {
		err := f.Sync()
		if err == nil {
			_, err = f.WriteAt(d.shards[i].Header[:8], 0)
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil { // pages may be lost; the system reports that once and a second sync would lie
			return d.explain(d.shards[i].Name, err)
		}
	}
	return nil
}

// ReadAt reads a shard back.
func (d *Dir) ReadAt(shard int, p []byte, off int64) error {
	_, err := d.files[shard].ReadAt(p, off)
	return err
}

// AddFile writes a small file, synced, from a reader.
func (d *Dir) AddFile(name string, from io.Reader) error {
	f, err := os.OpenFile(filepath.Join(d.partial, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return d.explain(name, err)
	}
	defer f.Close()
	if _, err := io.Copy(f, from); err != nil {
		return d.explain(name, err)
	}
	if err := f.Sync(); err != nil {
		return d.explain(name, err)
	}
	return nil
}

// Commit makes DST appear: everything in DST.partial is synced by now, one exclusive rename follows.
func (d *Dir) Commit() error {
	if err := d.closeFiles(); err != nil {
		return d.explain("", err)
	}
	if err := os.Remove(filepath.Join(d.partial, lockName)); err != nil {
		return d.explain("", err)
	}
	if err := syncDir(d.partial); err != nil {
		return d.explain("", err)
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty directory, as CreateDir saw
		return fault.New(nil, d.path, "was filled by something else meanwhile; the converted checkpoint is in %s", d.partial)
	}
	if err := renameExclusive(d.partial, d.path); err != nil {
		return &fault.Error{Where: d.path, What: fmt.Sprintf("cannot be made from %s", d.partial), Err: err}
	}
	err := syncDir(filepath.Dir(d.path))
	return errors.Join(err, d.lock.Close())
}

// Abort removes DST.partial and everything in it.
func (d *Dir) Abort() error {
	return errors.Join(d.closeFiles(), os.RemoveAll(d.partial), d.lock.Close())
}

func (d *Dir) closeFiles() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	d.files = nil
	return errors.Join(errs...)
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) { // file systems that do not sync directories say EINVAL
		return err
	}
	return nil
}
