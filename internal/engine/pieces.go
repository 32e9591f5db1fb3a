package engine

// Progress is what runs have done of a plan so far.
type Progress struct {
	Done [][2]int32 `json:"done"` // pieces whose results are written, as ranges [from, to)
	Counts
}

// PieceSet is a set of a plan's pieces.
type PieceSet []uint64

// NewPieceSet returns an empty set that has room for n pieces.
func NewPieceSet(n int) PieceSet { return make(PieceSet, (n+63)/64) }

// Has reports whether piece i is in the set.
func (s PieceSet) Has(i int32) bool { return len(s) > 0 && s[i>>6]>>(i&63)&1 == 1 }

// Add puts piece i into the set.
func (s PieceSet) Add(i int32) { s[i>>6] |= 1 << (i & 63) }

// Ranges returns the members below n as ranges [from, to), in order.
func (s PieceSet) Ranges(n int) (list [][2]int32) {
	for i := int32(0); int(i) < n; i++ {
		if !s.Has(i) {
			continue
		}
		if k := len(list) - 1; k >= 0 && list[k][1] == i {
			list[k][1]++
		} else {
			list = append(list, [2]int32{i, i + 1})
		}
	}
	return list
}

// PieceSetOf returns the set of n pieces that ranges list. ok is false if they are not in order, or
// reach beyond n.
func PieceSetOf(n int, ranges [][2]int32) (s PieceSet, ok bool) {
	s = NewPieceSet(n)
	var last int32
	for _, r := range ranges {
		if r[0] < last || r[0] > r[1] || int(r[1]) > n {
			return nil, false
		}
		last = r[1]
		for i := r[0]; i < r[1]; i++ {
			s.Add(i)
		}
	}
	return s, true
}
