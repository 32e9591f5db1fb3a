package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
)

const (
	block = 16 << 20
	turns = 3 // rounds of disk measurements
)

// disk measures writing, reading and copying a file.
func (s *Suite) disk(ctx context.Context, dir string) error {
	file, copied := filepath.Join(dir, "file"), filepath.Join(dir, "copy")
	memory := aligned(2 * block)
	// A file system may compress, and untouched memory is slow.
	if _, err := rand.Read(memory); err != nil {
		return err
	}
	write := func(ctx context.Context) (float64, error) {
		if err := os.RemoveAll(file); err != nil {
			return 0, err
		}
		return seconds(func(ctx context.Context) error { return s.Write(ctx, file, memory, s.Size) })(ctx)
	}
	read := func(ctx context.Context) (float64, error) {
		if err := cold(file); err != nil {
			return 0, err
		}
		return seconds(func(ctx context.Context) error { return readFile(ctx, file, memory[:block]) })(ctx)
	}
	loop := func(ctx context.Context) (float64, error) {
		if err := errors.Join(os.RemoveAll(copied), cold(file)); err != nil {
			return 0, err
		}
		t, err := seconds(func(ctx context.Context) error { return copyFile(ctx, file, copied, s.Size, memory[:block]) })(ctx)
		return t, errors.Join(err, os.RemoveAll(copied))
	}
	// The unit of the other rates: s.Size bytes, read and written.
	inMemory := seconds(func(context.Context) error {
		for n := int64(0); n < s.Size; n += 2 * block {
			m := min(block, (s.Size-n+1)/2)
			copy(memory[block:][:m], memory[:m])
		}
		return nil
	})
	if _, err := write(ctx); err != nil { // so that every order of the tasks finds a file
		return err
	}
	t, err := rounds(ctx, turns, turns, 0, write, read, loop, inMemory)
	if err != nil {
		return err
	}
	row := Row{Group: "disk", Bytes: s.Size, Reference: memcpyName(1)}
	for i, r := range []struct{ name, how string }{{"write", "32 MiB blocks, as conversions write; fsync"}, {"read", readHow}} {
		row.Name, row.On = r.name, r.how
		s.add(row, t[i], t[3])
	}
	row.Name, row.On, row.Bytes = "copy loop", "read, write, in turn; fsync", 2*s.Size
	s.add(row, t[2], doubled(t[3]))
	return os.RemoveAll(file)
}

func doubled(t []float64) (d []float64) {
	for _, x := range t {
		d = append(d, 2*x)
	}
	return d
}

// pageSize is the largest in use: direct transfers on macOS require aligned memory.
const pageSize = 16 << 10

func aligned(n int) []byte {
	b := make([]byte, n+pageSize)
	at := int(-reflect.ValueOf(b).Pointer() & (pageSize - 1))
	return b[at : at+n : at+n]
}

func readFile(ctx context.Context, path string, data []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	direct(f)
	for {
		_, err := f.Read(data)
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyFile is the plain copy loop: read a block, write it, and sync at the end. It writes size
// bytes, however many it reads, spreading the difference evenly.
func copyFile(ctx context.Context, from, to string, size int64, data []byte) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	direct(in)
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var read, written int64
	for read < st.Size() {
		n, err := in.Read(data)
		if err != nil {
			return err
		}
		read += int64(n)
		due := int64(float64(size) * (float64(read) / float64(st.Size())))
		if read >= st.Size() {
			due = size
		}
		for written < due && err == nil {
			var m int
			m, err = out.Write(data[:min(int64(n), due-written)])
			written += int64(m)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return out.Sync()
}

// cold removes files from the page cache, if the system can.
func cold(paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = f.Sync()
		drop(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}
