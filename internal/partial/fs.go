package partial

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/newdir"
)

// FS is the file system as Dir needs it. OS is the real one; tests have others, which fail or lose
// power. Errors are those of package os.
type FS interface {
	// Free is newdir.Free.
	Free(dst string) (emptyDir bool, err error)
	// Mkdir is newdir.Mkdir; the error is fs.ErrExist if the name is taken.
	Mkdir(partial, dst string) error
	MkdirAll(name string) error
	// Create makes a file of size bytes, all zero, with disk space for them. It replaces an existing
	// file.
	Create(name string, size int64) (File, error)
	// Open opens a file for reading and writing, and returns its size.
	Open(name string) (File, int64, error)
	// List returns the names in a directory; those of directories end with a slash.
	List(name string) ([]string, error)
	ReadFile(name string) ([]byte, error)
	Remove(name string) error
	RemoveAll(name string) error
	// SyncDir makes a directory's entries durable.
	SyncDir(name string) error
	// Grows reports whether files in a directory should grow as they are written: its file system
	// would fill them with zeros if they had their size from the start.
	Grows(dir string) bool
	// Lock creates a file and locks it; the lock ends with the process. ok is false if another process
	// has it. The error is errors.ErrUnsupported if the file system has no locks.
	Lock(name string) (unlock func() error, ok bool, err error)
	// Publish is newdir.Publish.
	Publish(partial, dst string, emptyDir bool) (done bool, err error)
}

// File is an open file. Writes are durable only after Sync.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	// WriteExtents writes extents of this file, in any order, possibly concurrently.
	WriteExtents(extents []engine.Extent) error
	Sync() error
	// Forget drops the file from the system's cache, so that reading it reads the disk.
	Forget()
	Close() error
}

// OS is the real file system.
type OS struct {
	// Overcommit creates files for which the disk seems to have no room: a system may free more on
	// demand, and not count that when asked for room.
	Overcommit bool

	allocate func(f *os.File, size int64) error // set by tests; nil: the system's
	grows    func(dir string) bool              // set by tests
}

var _ FS = OS{}

// Free implements FS.
func (OS) Free(dst string) (bool, error) { return newdir.Free(dst) }

// Mkdir implements FS.
func (OS) Mkdir(partial, dst string) error { return newdir.Mkdir(partial, dst) }

// MkdirAll implements FS.
func (OS) MkdirAll(name string) error { return os.MkdirAll(name, 0o755) }

// Create implements FS.
func (o OS) Create(name string, size int64) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	if size > 0 {
		if err := o.preallocate(f, size); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	bypassCache(f)
	return &osFile{File: f, size: size}, nil
}

// preallocate reserves disk space for a file and sets its size, so that a full disk shows before
// the first byte; only the size where the file system cannot reserve.
func (o OS) preallocate(f *os.File, size int64) error {
	give := allocate
	if o.allocate != nil {
		give = o.allocate
	}
	err := give(f, size)
	if err == nil || errors.Is(err, errors.ErrUnsupported) || o.Overcommit && errors.Is(err, syscall.ENOSPC) {
		return f.Truncate(size) // allocating does not set the size everywhere
	}
	return err
}

// Grows implements FS.
func (o OS) Grows(dir string) bool {
	if o.grows != nil {
		return o.grows(dir)
	}
	return writesZeros(dir)
}

// Open implements FS.
func (OS) Open(name string) (File, int64, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0o644)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	bypassCache(f)
	return &osFile{File: f, size: st.Size()}, st.Size(), nil
}

// List implements FS.
func (OS) List(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
		if e.IsDir() {
			names[i] += "/"
		}
	}
	return names, nil
}

// ReadFile implements FS.
func (OS) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// RemoveAll implements FS.
func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

// SyncDir implements FS.
func (OS) SyncDir(name string) error { return newdir.Sync(name) }

// Lock implements FS.
func (OS) Lock(name string) (func() error, bool, error) {
	l := flock.New(name)
	ok, err := l.TryLock()
	if err != nil || !ok {
		return nil, false, noLocks(err)
	}
	return l.Close, true, nil
}

// noLocks unifies the answers of file systems without locks: SMB on macOS returns ENOTSUP, NFS
// without its lock daemon ENOLCK, FUSE ENOSYS.
func noLocks(err error) error {
	if errors.Is(err, syscall.ENOLCK) {
		return errors.Join(errors.ErrUnsupported, err)
	}
	return err
}

// Publish implements FS.
func (OS) Publish(partial, dst string, emptyDir bool) (bool, error) {
	return newdir.Publish(partial, dst, emptyDir)
}

// osFile writes extents directly or paced, as the system needs it.
type osFile struct {
	*os.File
	size   int64
	writer writer
}

func (f *osFile) WriteExtents(extents []engine.Extent) error { return f.writer.write(f.File, extents) }

func (f *osFile) Sync() error { return newdir.Flush(f.File) }

func (f *osFile) Forget() { forget(f.File, f.size) }

// readIfThere is ReadFile, but returns nil for a file that does not exist.
func readIfThere(f FS, dir, name string) ([]byte, error) {
	b, err := f.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
