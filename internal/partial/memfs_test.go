package partial_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/partial"
)

var errPower = errors.New("the power is gone")

// memFS is a file system in memory that fails at a chosen operation, and that can lose power: it
// then keeps what was synced, and a random part of the rest, sector by sector and name by name. As
// on NFS and FUSE, an open file that is removed has another name until it is closed.
type memFS struct {
	names  map[string]*node // as programs see it
	synced map[string]*node // entries that are durable
	ops    int
	failAt int // the operation that fails, 0: none
	fail   error
	dead   bool // after errPower
	grows  bool
	noLock error // what locking answers, if not nil
}

// node is a file or, with no bytes, a directory.
type node struct {
	dir    bool
	data   []byte // as programs see it
	synced []byte
	writes []write // since the last sync, in order
	open   int
	locked bool
}

type write struct {
	off  int
	data []byte
}

func newMemFS() *memFS {
	m := &memFS{names: map[string]*node{}, synced: map[string]*node{}}
	for _, dir := range []string{"/", "/out"} {
		m.names[dir] = &node{dir: true}
		m.synced[dir] = m.names[dir]
	}
	return m
}

// op counts an operation and says whether it fails.
func (m *memFS) op() error {
	if m.dead {
		return errPower
	}
	if m.ops++; m.ops == m.failAt {
		m.dead = errors.Is(m.fail, errPower)
		return m.fail
	}
	return nil
}

func (m *memFS) Free(dst string) (bool, error) {
	if err := m.op(); err != nil {
		return false, newdir.Explain(dst, err)
	}
	if m.names[dst] == nil {
		return false, nil
	}
	return false, fs.ErrExist
}

func (m *memFS) Mkdir(name, _ string) error {
	if err := m.op(); err != nil {
		return err
	}
	if m.names[name] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	m.names[name] = &node{dir: true}
	return nil
}

func (m *memFS) MkdirAll(name string) error {
	if m.names[name] != nil {
		return m.op()
	}
	return m.Mkdir(name, "")
}

func (m *memFS) Create(name string, size int64) (partial.File, error) {
	if err := m.op(); err != nil {
		return nil, err
	}
	n := &node{data: make([]byte, size)}
	if old := m.names[name]; old != nil { // truncated, which may or may not survive
		n.synced, n.open, n.locked = old.synced, old.open, old.locked
		*old = *n
		n = old
	}
	n.writes = []write{{0, make([]byte, size)}}
	m.names[name] = n
	n.open++
	return &memFile{m, n}, nil
}

func (m *memFS) Open(name string) (partial.File, int64, error) {
	if err := m.op(); err != nil {
		return nil, 0, err
	}
	n := m.names[name]
	if n == nil {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	n.open++
	return &memFile{m, n}, int64(len(n.data)), nil
}

func (m *memFS) List(name string) (list []string, err error) {
	if err := m.op(); err != nil {
		return nil, err
	}
	for path := range m.names {
		if filepath.Dir(path) == name && path != "/" {
			list = append(list, filepath.Base(path))
		}
	}
	slices.Sort(list)
	return list, nil
}

func (m *memFS) ReadFile(name string) ([]byte, error) {
	if err := m.op(); err != nil {
		return nil, err
	}
	n := m.names[name]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return bytes.Clone(n.data), nil
}

func (m *memFS) Remove(name string) error {
	if err := m.op(); err != nil {
		return err
	}
	if m.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	return m.unlink(name)
}

// unlink removes one name.
func (m *memFS) unlink(name string) error {
	n := m.names[name]
	for path := range m.names {
		if n.dir && strings.HasPrefix(path, name+"/") {
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
	}
	delete(m.names, name)
	if n.open > 0 {
		m.names[filepath.Join(filepath.Dir(name), hidden+filepath.Base(name))] = n
	}
	return nil
}

const hidden = ".open."

// close drops what was removed while it was open.
func (m *memFS) close(n *node) {
	if n.open--; n.open > 0 {
		return
	}
	for path, x := range m.names {
		if x == n && strings.HasPrefix(filepath.Base(path), hidden) {
			delete(m.names, path)
		}
	}
}

func (m *memFS) RemoveAll(name string) error {
	if err := m.op(); err != nil {
		return err
	}
	var all []string
	for path := range m.names {
		if path == name || strings.HasPrefix(path, name+"/") {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	for _, path := range slices.Backward(all) {
		if err := m.unlink(path); err != nil {
			return err
		}
	}
	return nil
}

func (m *memFS) SyncDir(name string) error {
	if err := m.op(); err != nil {
		return err
	}
	for path, n := range m.names {
		if filepath.Dir(path) != name {
			continue
		}
		for was, x := range m.synced { // renamed: what lies in it comes along
			if x == n && n.dir && was != path {
				move(m.synced, was, path)
				break
			}
		}
		m.synced[path] = n
	}
	for path := range m.synced {
		if filepath.Dir(path) == name && path != "/" && m.names[path] == nil {
			delete(m.synced, path)
		}
	}
	return nil
}

func (m *memFS) Grows(string) bool { return m.grows }

func (m *memFS) Lock(name string) (func() error, bool, error) {
	if err := m.op(); err != nil {
		return nil, false, err
	}
	if m.noLock != nil {
		return nil, false, m.noLock
	}
	n := m.names[name]
	if n == nil {
		n = &node{}
		m.names[name] = n
	}
	if n.locked {
		return nil, false, nil
	}
	n.locked = true
	n.open++
	return func() error { n.locked = false; m.close(n); return nil }, true, nil
}

func (m *memFS) Publish(partial, dst string, _ bool) (bool, error) {
	if err := m.SyncDir(partial); err != nil {
		return false, newdir.Explain(partial, err)
	}
	if err := m.op(); err != nil {
		return false, newdir.Explain(dst, err)
	}
	move(m.names, partial, dst)
	if err := m.SyncDir(filepath.Dir(dst)); err != nil {
		return true, fmt.Errorf("%s: is complete, but %w", dst, err)
	}
	return true, nil
}

// move renames a directory with all that is in it.
func move(names map[string]*node, from, to string) {
	for path, n := range names {
		if rest, ok := strings.CutPrefix(path, from); ok && (rest == "" || rest[0] == '/') {
			delete(names, path)
			names[to+rest] = n
		}
	}
}

type memFile struct {
	m *memFS
	n *node
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.m.op(); err != nil {
		return 0, err
	}
	n := copy(p, f.n.data[min(off, int64(len(f.n.data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.m.op()
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		return 0, err
	}
	if err != nil {
		p = p[:len(p)/2] // a full disk takes some
	}
	if end := int(off) + len(p); end > len(f.n.data) {
		f.n.data = append(f.n.data, make([]byte, end-len(f.n.data))...)
	}
	copy(f.n.data[off:], p)
	f.n.writes = append(f.n.writes, write{int(off), bytes.Clone(p)})
	return len(p), err
}

func (f *memFile) WriteExtents(extents []engine.Extent) error {
	for _, x := range extents {
		if _, err := f.WriteAt(x.Data, x.Off); err != nil {
			f.drop()
			return err
		}
	}
	return nil
}

// drop loses what was not synced, as Linux does after a failed writeback: the pages count as clean
// from then on, and only the call that finds it reports it.
func (f *memFile) drop() {
	if !f.m.dead {
		f.n.data, f.n.writes = append(bytes.Clone(f.n.synced), make([]byte, len(f.n.data)-len(f.n.synced))...), nil
	}
}

func (f *memFile) Sync() error {
	if err := f.m.op(); err != nil {
		f.drop()
		return err
	}
	f.n.synced, f.n.writes = bytes.Clone(f.n.data), nil
	return nil
}

func (f *memFile) Forget() {}

func (f *memFile) Close() error {
	f.m.close(f.n)
	return nil
}

// lose returns the file system as it is found after the power has returned.
func (m *memFS) lose(rng *rand.Rand) *memFS {
	after := newMemFS()
	after.grows, after.noLock = m.grows, m.noLock
	seen := map[*node]*node{}
	survive := func(n *node) *node {
		if seen[n] != nil {
			return seen[n]
		}
		x := &node{dir: n.dir, data: bytes.Clone(n.synced)}
		for _, w := range n.writes {
			for at := 0; at < len(w.data); at += 512 { // sectors
				if rng.IntN(2) == 0 {
					continue
				}
				sector := w.data[at:min(at+512, len(w.data))]
				if end := w.off + at + len(sector); end > len(x.data) {
					x.data = append(x.data, make([]byte, end-len(x.data))...)
				}
				copy(x.data[w.off+at:], sector)
			}
		}
		x.synced = bytes.Clone(x.data)
		seen[n] = x
		return x
	}
	// A rename of a directory is one entry: what lies in it comes along.
	chosen := m.names
	if (m.names["/out/dst"] != nil) != (m.synced["/out/dst"] != nil) && rng.IntN(2) == 0 {
		chosen = m.synced
	}
	durable, named := map[*node]bool{}, map[*node]bool{}
	for _, n := range m.synced {
		durable[n] = true
	}
	for _, n := range chosen {
		named[n] = true
	}
	for path, n := range chosen {
		if durable[n] || n.dir || rng.IntN(2) == 0 {
			after.names[path] = survive(n)
			after.synced[path] = after.names[path]
		}
	}
	for path, n := range m.synced { // removed, but not durably
		if !named[n] && chosen[path] == nil && chosen[filepath.Dir(path)] != nil && rng.IntN(2) == 0 {
			after.names[path] = survive(n)
			after.synced[path] = after.names[path]
		}
	}
	return after
}
