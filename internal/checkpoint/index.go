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

// index is model.safetensors.index.json: which shard holds which tensor. Headers decide; the index
// names the shards.
type index struct {
	WeightMap weightMap `json:"weight_map"`
}

// weightMap is in the file's order: nobody looks up tensors in it.
type weightMap struct {
	entries []entry
	files   []string // without repetitions, sorted

	text string // of the file, if names are slices of it
}

type entry struct{ tensor, file string }

var errTooMany = errors.New("too many tensors")

// UnmarshalJSONFrom reads the map, and gives up once it is too large. The decoder refuses a tensor
// that is named twice, unless told not to.
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

// first returns the entry with the least name among those that match; there is one.
func (m *weightMap) first(fits func(entry) bool) entry {
	var found *entry
	for i := range m.entries {
		if e := &m.entries[i]; fits(*e) && (found == nil || e.tensor < found.tensor) {
			found = e
		}
	}
	return *found
}

// anyNames is a weightMap for which the decoder accepts a tensor that is named twice.
type anyNames weightMap

// UnmarshalJSONFrom reads the map.
func (m *anyNames) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return json.UnmarshalDecode(d, (*weightMap)(m), jsontext.AllowDuplicateNames(true))
}

// repeats reports whether a tensor is named twice.
func (m *weightMap) repeats() bool {
	names := make(map[string]struct{}, len(m.entries))
	for i := range m.entries {
		names[m.entries[i].tensor] = struct{}{}
	}
	return len(names) < len(m.entries)
}

// parseIndex compares the names itself, because the decoder is slow at that. If anything is wrong
// the index is read again strictly, for the error.
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

// readIndex returns nil if there is no index.
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

// plainName refuses everything that could lead out of a directory, and what could control a
// terminal.
func plainName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, `/\`) && !strings.ContainsFunc(s, unicode.IsControl) && filepath.IsLocal(s)
}

var errNoShard = errors.New("no shard: neither model.safetensors nor model-NNNNN-of-NNNNN.safetensors nor " + IndexName)

// numbered is a shard of a set; the set is everything that precedes the number: "model" for the
// tools of Hugging Face and mlx_lm.
var numbered = regexp.MustCompile(`(?s)^(.+)-(\d{5})-of-(\d{5})\.safetensors$`)

// shardNames returns the shard set: the index's if there is one, else model.safetensors, else a
// complete model-NNNNN-of-NNNNN set, else the only complete set, or the only file, of another name.
func (l *listing) shardNames(x *index, spare func(tensor string) bool) ([]string, error) {
	if x != nil {
		return l.indexedShards(x, spare)
	}
	sets, single := l.shardSets()
	switch model, n := sets["model"], len(sets["model"]); {
	case l.has("model.safetensors") && n > 0:
		return nil, fault.Corrupt(l.dir, "model.safetensors and %d numbered shards, and no %s to tell which count", n, IndexName)
	case l.has("model.safetensors"):
		return []string{"model.safetensors"}, nil
	case n > 0:
		return l.wholeSet(model)
	case len(sets)+len(single) == 0:
		return nil, &fault.Error{Kind: fault.ErrIncomplete, Where: l.dir, Err: errNoShard}
	case len(sets) == 1 && len(single) == 0:
		for _, set := range sets {
			return l.wholeSet(set)
		}
	case len(sets) == 0 && len(single) == 1:
		return single, nil
	}
	all := single
	for _, set := range sets {
		all = append(all, set...)
	}
	slices.Sort(all)
	return nil, fault.Corrupt(l.dir, "%s of names that are no set's, %s, %s and so on, and no %s to tell which count",
		quantity(len(all), "shard"), all[0], all[1], IndexName).WithHint("keep the model's shards alone, or write %s, whose weight_map names each tensor's shard", IndexName)
}

// otherShard matches safetensors files that are not part of a checkpoint in Hugging Face's form:
// Mistral's own, those of an adapter, vLLM's.
var otherShard = regexp.MustCompile(`^(consolidated|adapter|model-rank-\d+-part-)`)

// shardSets returns the directory's shards: numbered ones by what their names begin with, and those
// with other names, except for files of another form.
func (l *listing) shardSets() (sets map[string][]string, single []string) {
	sets = map[string][]string{}
	for _, name := range l.names {
		if strings.HasPrefix(name, ".") || filepath.Ext(name) != ".safetensors" || otherShard.MatchString(name) {
			continue
		}
		if m := numbered.FindStringSubmatch(name); m != nil {
			sets[m[1]] = append(sets[m[1]], name)
		} else if name != "model.safetensors" {
			single = append(single, name)
		}
	}
	return sets, single
}

// wholeSet refuses an incomplete set of numbered shards.
func (l *listing) wholeSet(set []string) ([]string, error) {
	first := numbered.FindStringSubmatch(set[0])
	stem, total := first[1], first[3]
	for _, name := range set {
		if numbered.FindStringSubmatch(name)[3] != total {
			return nil, fault.Corrupt(l.dir, "shards of two sets: %s and %s", set[0], name).WithHint("remove the set that does not belong here")
		}
	}
	n, _ := strconv.Atoi(total)
	for i := 1; i <= n; i++ {
		if name := fmt.Sprintf("%s-%05d-of-%s.safetensors", stem, i, total); !l.has(name) {
			return nil, missingShard(name, fmt.Sprintf("the set has %d", n))
		}
	}
	if len(set) != n {
		return nil, fault.Corrupt(l.dir, "%d shards, their names say %d: %s is not one of them", len(set), n, outside(set, n))
	}
	return set, nil
}

// outside finds a shard whose number is not in 1 to n.
func outside(set []string, n int) string {
	for _, name := range set {
		if i, _ := strconv.Atoi(numbered.FindStringSubmatch(name)[2]); i < 1 || i > n {
			return name
		}
	}
	return ""
}

// indexedShards returns the shards that the index names, without missing ones that hold only spare
// tensors.
func (l *listing) indexedShards(x *index, spare func(tensor string) bool) ([]string, error) {
	m := &x.WeightMap
	there := slices.DeleteFunc(slices.Clone(m.files), func(file string) bool { return !l.has(file) })
	if len(there) == len(m.files) {
		return m.files, nil
	}
	needed := func(e entry) bool { return !l.has(e.file) && !spare(e.tensor) }
	var missing []string
	for _, e := range m.entries {
		if needed(e) {
			missing = append(missing, e.file)
		}
	}
	if len(missing) == 0 && len(there) > 0 {
		return there, nil
	}
	if len(there) == 0 {
		if others, err := l.shardNames(nil, spare); err == nil {
			return nil, fault.Corrupt(IndexName, "names %s, none of which is there; beside it there %s, which it does not name",
				quantity(len(m.files), "shard"), complete(others)).WithHint("remove %s: without it these are read", IndexName)
		}
		missing = m.files
	}
	return nil, missingShard(slices.Min(missing), IndexName+" names it")
}

// complete returns "is model.safetensors", or "is a complete set of 3 shards".
func complete(shards []string) string {
	if len(shards) == 1 {
		return "is " + shards[0]
	}
	return fmt.Sprintf("is a complete set of %d shards", len(shards))
}

func quantity(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func missingShard(name, why string) error {
	return fault.Incomplete(name, "missing: %s", why).WithHint(`finish the download, for example with "hf download"`)
}

// compareIndex refuses an index that promises a tensor that no shard holds, unless it is spare.
// Other differences are notes: the headers win.
func (v *Inventory) compareIndex(x *index, spare func(tensor string) bool) error {
	if x == nil {
		return nil
	}
	m := &x.WeightMap
	missing, elsewhere := 0, 0
	for _, e := range m.entries {
		switch t := v.Lookup(e.tensor); {
		case t == nil && spare(e.tensor):
			v.Absent = append(v.Absent, e.tensor)
		case t == nil:
			missing++
		case v.Shards[t.Shard].Name != e.file:
			elsewhere++
		}
	}
	if missing > 0 {
		e := m.first(func(e entry) bool { return v.Lookup(e.tensor) == nil && !spare(e.tensor) })
		return fault.Incomplete(IndexName, "%d of its %d tensors are in no shard; the first is %q, said to be in %s", missing, len(m.entries), e.tensor, e.file)
	}
	if n := len(v.Absent); n > 0 {
		slices.Sort(v.Absent)
		v.Notes = append(v.Notes, fmt.Sprintf("%s names %s in no shard that no output needs; the first is %q", IndexName, quantity(n, "tensor"), v.Absent[0]))
	}
	if elsewhere > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%s places %d tensors in another shard than the one that holds them; the shards' headers count", IndexName, elsewhere))
	}
	if extra := len(v.Tensors) - (len(m.entries) - len(v.Absent)); extra > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%d tensors in the shards are not in %s; they are converted too", extra, IndexName))
	}
	return nil
}

// Unlisted finds a tensor in a .safetensors file beside the shards that the index does not name; ""
// if none has it. It reads the headers of those files, so it is for errors.
func (v *Inventory) Unlisted(tensor string) string {
	for _, name := range v.LeftOut {
		if filepath.Ext(name) != ".safetensors" {
			continue
		}
		_, h, err := v.listing.readHeader(name)
		if err == nil && slices.ContainsFunc(h.Tensors, func(t safetensors.Tensor) bool { return t.Name == tensor }) {
			return name
		}
	}
	return ""
}
