// Package newdir makes directories that appear whole: the work happens in DST.partial, and one
// exclusive rename makes it DST.
package newdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/metalcast/metalcast/internal/fault"
)

// Partial returns the directory in which dst is made.
func Partial(dst string) string { return dst + ".partial" }

// Inside reports whether dir is outer or lies in it. It compares files, not names: a file system
// may fold case.
func Inside(outer os.FileInfo, dir string) bool {
	for {
		if st, err := os.Stat(dir); err == nil && os.SameFile(outer, st) {
			return true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return false
		}
		dir = up
	}
}

// Free refuses a dst that exists, unless it is an empty directory (litter aside) and not a mount
// point. It reports which of the two it found.
func Free(dst string) (emptyDir bool, err error) {
	st, err := os.Lstat(dst)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, Explain(dst, err)
	case !st.IsDir():
		return false, fault.New(nil, dst, "exists and is no directory").WithHint("choose another destination, or remove it")
	}
	// Nothing else matters at a mount point.
	if parent, err := os.Stat(filepath.Dir(dst)); err == nil && device(parent) != device(st) {
		return false, fault.New(nil, dst, "is a mount point, which nothing can be renamed to").WithHint("choose a directory inside it")
	}
	entries, err := os.ReadDir(dst)
	if err != nil {
		return false, Explain(dst, err)
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !Litter(e) }) {
		return false, fault.New(nil, dst, "exists and is not empty").WithHint("choose another destination, or remove it")
	}
	if here, err := os.Stat("."); err == nil && os.SameFile(here, st) {
		return false, fault.New(fault.ErrUsage, dst, "is the current directory, whose place the finished one would take").WithHint("choose a directory inside it")
	}
	return true, nil
}

// Mkdir makes the partial directory for dst. If dst is an empty directory it has the same mode: if
// that one is private, so is the work.
func Mkdir(partial, dst string) error {
	if err := os.Mkdir(partial, 0o755); err != nil {
		return err
	}
	if st, err := os.Stat(dst); err == nil && st.IsDir() {
		return os.Chmod(partial, st.Mode()&(fs.ModePerm|fs.ModeSetgid|fs.ModeSticky)|0o700)
	}
	return nil
}

// Publish renames a finished and synced partial directory to dst. It replaces nothing but the empty
// directory that Free has seen. It reports whether dst exists now; if not, the partial directory
// still does, and the message says so.
func Publish(partial, dst string, emptyDir bool) (done bool, err error) {
	kept := func(err error) error {
		return &fault.Error{Where: dst, What: "was taken by something else meanwhile; what was made is complete in " + partial, Err: Cause(err),
			Hint: "rename it by hand"}
	}
	if err := Sync(partial); err != nil {
		return false, Explain(partial, err)
	}
	if emptyDir {
		if err := removeEmpty(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, kept(err)
		}
	}
	if err := renameExclusive(partial, dst); err != nil {
		return false, kept(err)
	}
	if err := Sync(filepath.Dir(dst)); err != nil {
		return true, &fault.Error{Where: dst, What: "is complete, but whether its name outlasts a power cut is not known", Err: Cause(err)}
	}
	return true, nil
}

// Sync makes a directory's entries durable, if the file system can.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return Flush(f)
}

// Flush makes a file durable, as far as its file system and drive can: some network and external
// volumes have no flush.
func Flush(f *os.File) error {
	err := f.Sync()
	if refused(err) {
		err = lesserFlush(f)
	}
	if refused(err) {
		return nil
	}
	return err
}

func refused(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTTY) || errors.Is(err, errors.ErrUnsupported)
}

// Explain adds the file in which err happened while writing, and sets the kind of a full disk.
func Explain(where string, err error) error {
	e := &fault.Error{Where: where, What: "cannot be written", Err: Cause(err)}
	switch {
	case errors.Is(err, syscall.EFBIG):
		e.Kind, e.Hint = fault.ErrNoSpace, "its file system has no files of that size: choose another disk, or smaller shards (--max-shard-size 4GB where it is FAT32)"
	case Full(err):
		e.Kind, e.Hint = fault.ErrNoSpace, "free some space, or choose another disk"
	case errors.Is(err, syscall.EMFILE):
		e.Hint = `too many files are open at once: raise the limit with "ulimit -n", or ask for larger shards`
	}
	return e
}

// Full reports whether a disk, or a user's quota of it, is full, or its file system does not allow
// files of that size.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// Cause returns the error inside one of package os, whose text repeats the path.
func Cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
