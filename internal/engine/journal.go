package engine

import (
	"bytes"
	"encoding/json"
	"path/filepath"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/plan"
)

// journalName is the file of DST.partial that says how far a run came. Its first line is the state that every run of the same conversion
// begins with, each further one a checkpoint: all that it names was durable before it was written, and findings are those that no line before it has. A line that is cut
// short counts for nothing.
const journalName = plan.JournalName

// Progress is how far a run came.
type Progress struct {
	Done [][2]int32 `json:"done"` // pieces of the plan whose results are written, as ranges [from, to)
	Counts
}

// journal appends checkpoints to a file.
type journal struct {
	file File
	end  int64
}

// startJournal makes the journal of a conversion that begins.
func startJournal(f FS, dir string, state []byte) (*journal, error) {
	file, err := f.Create(filepath.Join(dir, journalName), 0)
	if err != nil {
		return nil, err
	}
	j := &journal{file: file}
	return j, j.append(state)
}

// append adds a line and makes it durable.
func (j *journal) append(line []byte) error {
	line = append(bytes.Clone(line), '\n')
	if _, err := j.file.WriteAt(line, j.end); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.end += int64(len(line))
	return nil
}

// readJournal gives the state that the journal in dir begins with and the last checkpoint; state is nil where there is no journal, or one that was
// cut short in its first line.
func readJournal(f FS, dir string) (state []byte, last Progress, end int64, err error) {
	text, err := readIfThere(f, dir, journalName)
	if err != nil {
		return nil, last, 0, newdir.Explain(filepath.Join(dir, journalName), err)
	}
	for first := true; ; first = false {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole || !jsontext.Value(line).IsValid() {
			return state, last, end, nil
		}
		if first {
			state = line
		} else {
			var p Progress
			if json.Unmarshal(line, &p) != nil {
				return state, last, end, nil
			}
			p.Found = append(last.Found, p.Found...)
			last = p
		}
		end += int64(len(line)) + 1
		text = rest
	}
}

// resumeJournal goes on with the journal in dir behind its first end bytes.
func resumeJournal(f FS, dir string, end int64) (*journal, error) {
	file, _, err := f.Open(filepath.Join(dir, journalName))
	if err != nil {
		return nil, err
	}
	return &journal{file, end}, nil
}

// pieceSet is a set of a plan's pieces.
type pieceSet []uint64

func newPieceSet(n int) pieceSet { return make(pieceSet, (n+63)/64) }

func (s pieceSet) has(i int32) bool { return len(s) > 0 && s[i>>6]>>(i&63)&1 == 1 }

func (s pieceSet) add(i int32) { s[i>>6] |= 1 << (i & 63) }

// ranges lists the set's members below n.
func (s pieceSet) ranges(n int) (list [][2]int32) {
	for i := int32(0); int(i) < n; i++ {
		if !s.has(i) {
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

// setOf makes a set of n pieces from ranges; ok is false where they reach beyond, or are not in order, as ranges lists them.
func setOf(n int, ranges [][2]int32) (s pieceSet, ok bool) {
	s = newPieceSet(n)
	var last int32
	for _, r := range ranges {
		if r[0] < last || r[0] > r[1] || int(r[1]) > n {
			return nil, false
		}
		last = r[1]
		for i := r[0]; i < r[1]; i++ {
			s.add(i)
		}
	}
	return s, true
}
