package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// index is model.safetensors.index.json: which shard holds which tensor. Headers decide; the index names the shards.
type index struct {
	WeightMap weightMap `json:"weight_map"`
}

// weightMap is in the file's order: nobody looks a tensor up in it.
type weightMap struct {
	entries []entry
	files   []string // each once, sorted

	text string // of the file, where names are to be parts of it
}

type entry struct{ tensor, file string }

var errTooMany = errors.New("too many tensors")

// UnmarshalJSONFrom reads the map and gives up once it is too large. The decoder refuses a tensor that is named twice, unless it is let off that.
func (m *weightMap) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	wrong := func(k jsontext.Kind) error {
		return fault.Corrupt("", "%s is %s; weight_map, an object of file names, was expected", d.StackPointer(), safetensors.KindName(k))
	}
	t, err := d.ReadToken()
	switch {
	case err != nil:
		return err
	case t.Kind() != '{':
		return wrong(t.Kind())
	}
	*m = weightMap{text: m.text, entries: make([]entry, 0, min(strings.Count(m.text, `"`)/4, safetensors.MaxTensors))}
	files := map[string]string{} // one string for all entries of a file
	file := ""
	for d.PeekKind() != '}' {
		if len(m.entries) == safetensors.MaxTensors {
			return errTooMany
		}
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := safetensors.StringIn(m.text, d, t)
		if t, err = d.ReadToken(); err != nil {
			return err
		}
		if t.Kind() != '"' {
			return wrong(t.Kind())
		}
		if t.String() != file || len(m.entries) == 0 {
			file = t.String()
			if known, ok := files[file]; ok {
				file = known
			} else {
				files[file] = file
			}
		}
		m.entries = append(m.entries, entry{name, file})
	}
	m.files = slices.Sorted(maps.Keys(files))
	_, err = d.ReadToken()
	return err
}

// first is the entry of the least name, of those that fit; there is one.
func (m *weightMap) first(fits func(entry) bool) entry {
	var found *entry
	for i := range m.entries {
		if e := &m.entries[i]; fits(*e) && (found == nil || e.tensor < found.tensor) {
			found = e
		}
	}
	return *found
}

// anyNames is a weightMap in which the decoder lets a tensor be named twice.
type anyNames weightMap

// UnmarshalJSONFrom reads the map.
func (m *anyNames) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return json.UnmarshalDecode(d, (*weightMap)(m), jsontext.AllowDuplicateNames(true))
}

// repeats tells whether a tensor is named twice.
func (m *weightMap) repeats() bool {
	names := make(map[string]struct{}, len(m.entries))
	for i := range m.entries {
		names[m.entries[i].tensor] = struct{}{}
	}
	return len(names) < len(m.entries)
}

// parseIndex compares the names itself, for the decoder is slow at that. Where anything is wrong the index is read again strictly, for the error.
func parseIndex(text []byte) (x index, err error) {
	quick := struct {
		WeightMap anyNames `json:"weight_map"`
	}{anyNames{text: string(text)}}
	err = json.UnmarshalRead(bytes.NewBuffer(text), &quick)
	if x.WeightMap = weightMap(quick.WeightMap); err != nil || x.WeightMap.repeats() {
		x = index{}
		err = json.UnmarshalRead(bytes.NewReader(text), &x)
	}
	return x, err
}

// readIndex gives nil where there is no index.
func (l *listing) readIndex() (*index, error) {
	text, err := l.read(IndexName, maxIndex)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	x, err := parseIndex(text)
	if err != nil {
		var e *fault.Error
		var wrong *json.SemanticError
		switch {
		case errors.As(err, &e):
			return nil, fault.In(IndexName, e)
		case errors.Is(err, errTooMany):
			return nil, fault.Unsupported(IndexName, "more than %d tensors", safetensors.MaxTensors)
		case errors.As(err, &wrong):
			return nil, fault.Corrupt(IndexName, "is %s, an object with weight_map was expected", safetensors.KindName(wrong.JSONKind))
		}
		return nil, fault.In(IndexName, notJSON("not a valid index", err))
	}
	if len(x.WeightMap.entries) == 0 {
		return nil, fault.Corrupt(IndexName, "weight_map is missing or empty")
	}
	if slices.ContainsFunc(x.WeightMap.files, func(file string) bool { return !plainName(file) }) {
		e := x.WeightMap.first(func(e entry) bool { return !plainName(e.file) })
		return nil, fault.Corrupt(IndexName, "places tensor %q in %q, which is no file name inside the directory", e.tensor, e.file)
	}
	return &x, nil
}

// plainName refuses everything that could lead out of a directory, and what would speak to a terminal.
func plainName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, `/\`) && !strings.ContainsFunc(s, unicode.IsControl) && filepath.IsLocal(s)
}

var errNoShard = errors.New("no shard: neither model.safetensors nor model-NNNNN-of-NNNNN.safetensors nor " + IndexName)

var numbered = regexp.MustCompile(`^model-(\d{5})-of-(\d{5})\.safetensors$`)

// shardNames is the shard set: the index's when there is one, else model.safetensors, else a complete model-NNNNN-of-NNNNN set.
func (l *listing) shardNames(x *index) ([]string, error) {
	if x != nil {
		return l.indexedShards(x)
	}
	single := l.has("model.safetensors")
	var set []string
	total := ""
	for _, name := range l.names {
		m := numbered.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		if total != "" && m[2] != total {
			return nil, fault.Corrupt(l.dir, "shards of two sets: %s and %s", set[0], name).WithHint("remove the set that does not belong here")
		}
		total = m[2]
		set = append(set, name)
	}
	switch {
	case single && len(set) > 0:
		return nil, fault.Corrupt(l.dir, "model.safetensors and %d numbered shards, and no %s to tell which count", len(set), IndexName)
	case single:
		return []string{"model.safetensors"}, nil
	case len(set) == 0:
		return nil, &fault.Error{Kind: fault.ErrIncomplete, Where: l.dir, Err: errNoShard}
	}
	n, _ := strconv.Atoi(total)
	for i := 1; i <= n; i++ {
		if name := fmt.Sprintf("model-%05d-of-%s.safetensors", i, total); !l.has(name) {
			return nil, missingShard(name, fmt.Sprintf("the set has %d", n))
		}
	}
	if len(set) != n {
		return nil, fault.Corrupt(l.dir, "%d shards, their names say %d: %s is none of them", len(set), n, outside(set, n))
	}
	return set, nil
}

// outside finds a shard whose number is not one of 1 to n.
func outside(set []string, n int) string {
	for _, name := range set {
		if i, _ := strconv.Atoi(numbered.FindStringSubmatch(name)[1]); i < 1 || i > n {
			return name
		}
	}
	return ""
}

func (l *listing) indexedShards(x *index) ([]string, error) {
	for _, name := range x.WeightMap.files {
		if !l.has(name) {
			return nil, missingShard(name, IndexName+" names it")
		}
	}
	return x.WeightMap.files, nil
}

func missingShard(name, why string) error {
	return fault.Incomplete(name, "missing: %s", why).WithHint(`finish the download, for example with "hf download"`)
}

// compareIndex refuses an index that promises a tensor no shard holds. Other differences are notes: the headers win.
func (v *Inventory) compareIndex(x *index) error {
	if x == nil {
		return nil
	}
	m := &x.WeightMap
	missing, elsewhere := 0, 0
	for _, e := range m.entries {
		if t := v.Lookup(e.tensor); t == nil {
			missing++
		} else if v.Shards[t.Shard].Name != e.file {
			elsewhere++
		}
	}
	if missing > 0 {
		e := m.first(func(e entry) bool { return v.Lookup(e.tensor) == nil })
		return fault.Incomplete(IndexName, "%d of its %d tensors are in no shard; the first is %q, said to be in %s", missing, len(m.entries), e.tensor, e.file)
	}
	if elsewhere > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%s places %d tensors in another shard than the one that holds them; the shards' headers count", IndexName, elsewhere))
	}
	if extra := len(v.Tensors) - len(m.entries); extra > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%d tensors in the shards are not in %s; they are converted too", extra, IndexName))
	}
	return nil
}
