package checkpoint

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/metalcast/metalcast/internal/fault"
)

// Bounds on what is read whole, in bytes. The index of a model with 200,000 tensors is about 20 MB,
// and so are its headers together.
const (
	maxConfig  = 16 << 20
	maxIndex   = 128 << 20
	maxHeaders = 256 << 20
	maxShards  = 1 << 50 // of all shards together, whose sum then cannot overflow
)

// listing is a directory's entries. Files are opened only through it, which keeps every symbolic
// link inside the checkpoint.
type listing struct {
	dir string
	// Resolved directories that a link may lead to: dir, and the blobs of its repository in a hub
	// cache.
	roots []string
	hub   *hubLinks // where else links of such a repository may lead; nil elsewhere
	names []string  // sorted; without AppleDouble files
	dirs  map[string]bool
}

func list(dir string, byID bool) (*listing, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	l := &listing{dir: root, roots: []string{root}, dirs: map[string]bool{}}
	if l.hub = newHubLinks(root, byID); l.hub != nil {
		l.roots = append(l.roots, l.hub.blobs)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		// AppleDouble: macOS keeps attributes there on exFAT, SMB and USB sticks.
		if strings.HasPrefix(e.Name(), "._") {
			continue
		}
		l.names = append(l.names, e.Name())
		if st, err := os.Stat(filepath.Join(root, e.Name())); err == nil && st.IsDir() {
			l.dirs[e.Name()] = true
		}
	}
	slices.Sort(l.names)
	return l, nil
}

func (l *listing) has(name string) bool {
	_, ok := slices.BinarySearch(l.names, name)
	return ok
}

// resolve returns the real path of an entry, which must be a regular file inside the checkpoint, or
// where hubLinks lead.
func (l *listing) resolve(name string) (string, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(l.dir, name))
	if err != nil {
		if _, statErr := os.Stat(filepath.Join(l.dir, name)); errors.Is(statErr, syscall.ELOOP) {
			return "", fault.Corrupt("", "a symbolic link that leads back to itself")
		}
		return "", cause(err)
	}
	inside := slices.ContainsFunc(l.roots, func(r string) bool {
		rel, err := filepath.Rel(r, path)
		return err == nil && filepath.IsLocal(rel)
	})
	if !inside {
		if path, err = l.hub.follow(filepath.Join(l.dir, name)); err != nil {
			return "", err
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", cause(err)
	}
	if !st.Mode().IsRegular() { // opening a FIFO would wait for ever
		return "", fault.Corrupt("", "not a regular file")
	}
	return path, nil
}

// open opens an entry for reading and returns its size.
func (l *listing) open(name string) (*os.File, int64, error) {
	path, err := l.resolve(name)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, cause(err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, cause(err)
	}
	return f, st.Size(), nil
}

// read reads a small file whole.
func (l *listing) read(name string, limit int64) ([]byte, error) {
	if !l.has(name) {
		return nil, fs.ErrNotExist
	}
	f, size, err := l.open(name)
	if err != nil {
		return nil, fault.In(name, err)
	}
	defer f.Close()
	if size > limit {
		return nil, fault.Corrupt(name, "%d bytes, at most %d were expected", size, limit)
	}
	if err := refusePointer(f, size); err != nil {
		return nil, fault.In(name, err)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, &fault.Error{Where: name, What: "cannot be read", Err: err}
	}
	return text, nil
}

// cause drops the path from a file system error: the message already has the name.
func cause(err error) error {
	if errors.Is(err, fs.ErrNotExist) { // a dangling link, as an interrupted download leaves
		return fault.Incomplete("", "a link to a file that is not there").WithHint(`finish the download, for example with "hf download"`)
	}
	if p, ok := err.(*fs.PathError); ok { //nolint:errorlint // as the os package returns it
		return &fault.Error{What: p.Op, Err: p.Err}
	}
	return err
}

// ReadFile reads one of the checkpoint's files whole, up to limit bytes.
func (v *Inventory) ReadFile(name string, limit int64) ([]byte, error) {
	return v.listing.read(name, limit)
}

// OpenFile opens one of the checkpoint's files, with the same checks.
func (v *Inventory) OpenFile(name string) (*os.File, error) {
	f, _, err := v.listing.open(name)
	if err != nil {
		return nil, fault.In(name, err)
	}
	return f, nil
}
