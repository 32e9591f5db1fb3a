//go:build (darwin && cgo) || fakemetal

package metal

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/progrium/darwinkit/macos/metal"
	"github.com/progrium/darwinkit/objc"
	"golang.org/x/sys/unix"

	mtl "github.com/metalcast/metalcast/cgo"
)

// page is Apple silicon's: buffers without a copy begin and end at multiples of it.
const page = 16 << 10

const statusSize = unsafe.Sizeof(status{})

// slot is the memory of one window in flight.
type slot struct {
	g *gpu

	in, out             []byte
	inBuffer, outBuffer metal.BufferObject
	mapped              [][]byte // what Close unmaps

	layout
	tiles, statuses, nans shared
	scratch               []byte // of the CPU's checks
}

func (s *slot) In() []byte  { return s.in }
func (s *slot) Out() []byte { return s.out }

// newSlot allocates a slot of in and out bytes.
func (g *gpu) newSlot(in, out int) (*slot, error) {
	s := &slot{g: g}
	var err error
	if s.in, s.inBuffer, err = s.memory(in); err == nil {
		s.out, s.outBuffer, err = s.memory(out)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: memory of %d + %d bytes: %w", g, in, out, err), s.close())
	}
	return s, nil
}

// memory maps anonymous memory and makes a buffer over it; where Metal does not take it, Metal allocates.
func (s *slot) memory(n int) ([]byte, metal.BufferObject, error) {
	size := (max(n, 1) + page - 1) &^ (page - 1)
	if limit := mtl.MaxBufferLength(s.g.dev); uint(size) > limit {
		return nil, metal.BufferObject{}, fmt.Errorf("a buffer of %d bytes; the device's longest is %d", size, limit)
	}
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, metal.BufferObject{}, err
	}
	s.mapped = append(s.mapped, mem)
	b := mtl.NewBufferNoCopy(s.g.dev, unsafe.Pointer(unsafe.SliceData(mem)), uint(size))
	if !b.IsNil() && mtl.Length(b) == uint(size) {
		return mem[:n:n], b, nil
	}
	if !b.IsNil() {
		b.Release()
	}
	if b = mtl.NewBuffer(s.g.dev, uint(size)); b.IsNil() {
		return nil, b, errors.New("the device has no memory for it")
	}
	return unsafe.Slice((*byte)(mtl.Contents(b)), size)[:n:n], b, nil
}

// close releases the buffers, then unmaps what lies under them. Nothing of the slot is in flight.
func (s *slot) close() error {
	for _, b := range []metal.BufferObject{s.inBuffer, s.outBuffer, s.tiles.buffer, s.statuses.buffer, s.nans.buffer} {
		if !b.IsNil() {
			b.Release()
		}
	}
	var err error
	for _, m := range s.mapped {
		err = errors.Join(err, unix.Munmap(m))
	}
	*s = slot{}
	return err
}

// shared is a small buffer that grows to the largest window.
type shared struct {
	buffer metal.BufferObject
	mem    []byte
}

// need makes room for n bytes and clears them.
func (b *shared) need(g *gpu, n int) error {
	if n > len(b.mem) {
		size := (n*3/2 + page - 1) &^ (page - 1)
		fresh := mtl.NewBuffer(g.dev, uint(size))
		if fresh.IsNil() {
			return fmt.Errorf("%s: no memory for a buffer of %d bytes", g, size)
		}
		if !b.buffer.IsNil() {
			b.buffer.Release()
		}
		b.buffer, b.mem = fresh, unsafe.Slice((*byte)(mtl.Contents(fresh)), size)
	}
	clear(b.mem[:n])
	return nil
}

// lay fills the tile buffer and clears the statuses.
func (s *slot) lay() (err error) {
	objc.WithAutoreleasePool(func() {
		for _, x := range []struct {
			b *shared
			n int
		}{{&s.tiles, s.bytes}, {&s.statuses, len(s.jobs) * int(statusSize)}, {&s.nans, len(s.jobs) * 4}} {
			if err = x.b.need(s.g, x.n); err != nil {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	table, thin, plain, quantize := s.table, s.thin, s.plain, s.quantize
	for i := range s.dispatches {
		d := &s.dispatches[i]
		to := s.tiles.mem[d.offset:]
		switch {
		case strings.HasPrefix(d.kernel, "table"):
			copy(to, bytesOf(table[:d.count]))
			table = table[d.count:]
		case strings.HasPrefix(d.kernel, "thin"):
			copy(to, bytesOf(thin[:d.count]))
			thin = thin[d.count:]
		case strings.HasPrefix(d.kernel, "quantize"):
			copy(to, bytesOf(quantize[:d.count]))
			quantize = quantize[d.count:]
		default:
			copy(to, bytesOf(plain[:d.count]))
			plain = plain[d.count:]
		}
	}
	return nil
}

func bytesOf[T any](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(*new(T))))
}

// statusOf gives what the threadgroups said, by status index.
func (s *slot) statusOf() ([]status, []uint32) {
	n := len(s.jobs)
	return unsafe.Slice((*status)(unsafe.Pointer(unsafe.SliceData(s.statuses.mem))), n), unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(s.nans.mem))), n)
}
