package checkpoint

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/metalcast/metalcast/internal/fault"
)

// Source reads the shards' bytes. It keeps every shard open.
type Source struct {
	shards []Shard
	files  []*os.File
	// Shards that were in the page cache before they were read; they stay there.
	warm  []bool
	reads pieces // how long reads are cut
}

// OpenSource opens the shards that the inventory lists. They must still be the files whose headers
// were read.
func (v *Inventory) OpenSource() (*Source, error) {
	s := &Source{shards: v.Shards}
	for i := range v.Shards {
		f, _, err := v.listing.open(v.Shards[i].Name)
		if err != nil {
			s.Close()
			return nil, fault.In(v.Shards[i].Name, err)
		}
		s.files = append(s.files, f)
		s.warm = append(s.warm, cached(f, v.Shards[i].Size))
	}
	if err := s.Unchanged(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ReadAt fills p from shard at offset off.
func (s *Source) ReadAt(shard int, p []byte, off int64) error {
	n, err := s.reads.readAt(s.files[shard], p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		end := off + int64(n)
		if st, err := s.files[shard].Stat(); err == nil {
			end = st.Size() // scales may be read from beyond it
		}
		return fault.Incomplete(s.shards[shard].Name, "ends at byte %d, it was longer when its header was read", end)
	}
	return &fault.Error{Where: s.shards[shard].Name, What: "read", Err: cause(err)}
}

// Forget declares that a range of a shard will not be read again. It is dropped from the page
// cache, which a large model would otherwise fill, unless the shard was cached before.
func (s *Source) Forget(shard int, off, n int64) {
	if !s.warm[shard] {
		leaveCache(s.files[shard], off, n)
	}
}

// Once declares that hardly any byte will be read twice: reads then bypass the cache, if the system
// can.
func (s *Source) Once() {
	s.reads = uncachedReads
	for _, f := range s.files {
		uncached(f)
	}
}

// Unchanged reports whether the shards are still those whose headers were read: the same files, of
// the same size and time.
func (s *Source) Unchanged() error {
	for i, f := range s.files {
		if err := s.shards[i].unchanged(f); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shard) unchanged(f *os.File) error {
	st, err := f.Stat()
	switch {
	case err != nil:
		return &fault.Error{Where: s.Name, Err: cause(err)}
	case !os.SameFile(st, s.seen):
		return fault.Corrupt(s.Name, "was replaced while metalcast was reading")
	case st.Size() != s.Size:
		return fault.Corrupt(s.Name, "%d bytes now, %d when its header was read: it changed meanwhile", st.Size(), s.Size)
	case !st.ModTime().Equal(s.seen.ModTime()):
		return fault.Corrupt(s.Name, "was written to at %s, after its header was read", st.ModTime().Format(time.RFC3339))
	}
	return nil
}

// Close closes all shards.
func (s *Source) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
