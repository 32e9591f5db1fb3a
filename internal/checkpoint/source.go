package checkpoint

import (
	"errors"
	"io"
	"os"

	"github.com/metalcast/metalcast/internal/fault"
)

// Source reads the shards' bytes. It keeps every shard open.
type Source struct {
	names []string
	files []*os.File
}

// OpenSource opens the shards that the inventory lists. They must still have the sizes seen then.
func (v *Inventory) OpenSource() (*Source, error) {
	l, err := list(v.Dir)
	if err != nil {
		return nil, err
	}
	s := &Source{}
	for _, shard := range v.Shards {
		f, size, err := l.open(shard.Name)
		if err != nil {
			s.Close()
			return nil, fault.In(shard.Name, err)
		}
		s.names, s.files = append(s.names, shard.Name), append(s.files, f)
		if size != shard.Size {
			s.Close()
			return nil, fault.Corrupt(shard.Name, "%d bytes now, %d when its header was read: it changed meanwhile", size, shard.Size)
		}
	}
	return s, nil
}

// ReadAt fills p from shard at offset off.
func (s *Source) ReadAt(shard int, p []byte, off int64) error {
	n, err := s.files[shard].ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fault.Incomplete(s.names[shard], "ends at byte %d, it was longer when its header was read", off+int64(n))
	}
	return &fault.Error{Where: s.names[shard], What: "read", Err: cause(err)}
}

// File is a shard's open file, for advice to the system's page cache.
func (s *Source) File(shard int) *os.File { return s.files[shard] }

// Close closes all shards.
func (s *Source) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
