package cpufallback

import "errors"

// slot is memory outside Go's heap: page aligned, unseen by the collector and given back when it is closed.
type slot struct{ in, out []byte }

func (s *slot) In() []byte  { return s.in }
func (s *slot) Out() []byte { return s.out }

func newSlot(in, out int) (*slot, error) {
	a, err := mapMemory(in)
	if err != nil {
		return nil, err
	}
	b, err := mapMemory(out)
	if err != nil {
		return nil, errors.Join(err, unmapMemory(a))
	}
	return &slot{a, b}, nil
}

func (s *slot) close() error {
	err := errors.Join(unmapMemory(s.in), unmapMemory(s.out))
	s.in, s.out = nil, nil
	return err
}
