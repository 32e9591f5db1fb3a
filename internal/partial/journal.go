package partial

import (
	"bytes"
	"encoding/json"
	"path/filepath"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/plan"
)

// journalName is the file of DST.partial that records progress. Its first line is the State; each
// further line is a save point. Everything that a line names was durable before the line was
// written; findings are incremental. A truncated line is ignored.
const journalName = plan.JournalName

// journal appends save points to a file.
type journal struct {
	file File
	end  int64
}

// startJournal creates the journal of a new conversion.
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

// readJournal returns the State that the journal in dir starts with, and its last save point. state
// is nil if there is no journal, or if its first line is truncated.
func readJournal(f FS, dir string) (state []byte, last engine.Progress, end int64, err error) {
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
			var p engine.Progress
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

// resumeJournal continues the journal in dir after its first end bytes.
func resumeJournal(f FS, dir string, end int64) (*journal, error) {
	file, _, err := f.Open(filepath.Join(dir, journalName))
	if err != nil {
		return nil, err
	}
	return &journal{file, end}, nil
}
