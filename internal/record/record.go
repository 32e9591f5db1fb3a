// Package record is metalcast.json: where a converted checkpoint comes from, and everything that
// its bytes depend on. It holds no path, time or device.
package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	strictjson "github.com/go-json-experiment/json"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/plan"
)

// Record is the content of metalcast.json. Metalcast is the version of the tool; Files has the
// SHA-256 of the other files, and of the shards only on request.
type Record struct {
	Metalcast string              `json:"metalcast"`
	Source    Source              `json:"source"`
	Options   Options             `json:"options"`
	Dropped   []plan.DroppedGroup `json:"dropped,omitempty"`
	Findings  []Finding           `json:"findings,omitempty"`
	Files     map[string]string   `json:"sha256,omitempty"`
}

// Source identifies a checkpoint.
type Source struct {
	Repo     string  `json:"repo,omitempty"`
	Revision string  `json:"revision,omitempty"`
	Shards   []Shard `json:"shards"`
}

// Shard identifies a shard of a source.
type Shard struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Header string `json:"header_sha256"`
}

// Options are the options that the output's bytes depend on.
type Options struct {
	Layout       string    `json:"layout"`
	DType        string    `json:"dtype,omitempty"`
	KeepMTP      bool      `json:"keep_mtp,omitempty"`
	Scales       string    `json:"scales,omitempty"`
	MaxShardSize int64     `json:"max_shard_size"`
	Quantize     *Quantize `json:"quantize,omitempty"`
}

// Quantize is the quantization that was asked for, with its defaults resolved.
type Quantize struct {
	Mode      string   `json:"mode"`
	Bits      int      `json:"bits"`
	GroupSize int      `json:"group_size"`
	Predicate string   `json:"predicate,omitempty"`
	Profile   string   `json:"profile"`
	Overrides []string `json:"overrides,omitempty"`
}

// Finding is a source tensor with values that a sound checkpoint does not hold, and how many.
type Finding struct {
	Tensor    string  `json:"tensor"`
	NaNCodes  int64   `json:"nan_codes,omitempty"`
	BadScales int64   `json:"non_finite_scales,omitempty"`
	Overflows int64   `json:"overflows,omitempty"`
	Large     int64   `json:"large_weights,omitempty"`
	Largest   float64 `json:"largest_weight,omitempty"`
}

// New returns the record of a plan, without findings and sums. Of o the defaults are resolved;
// version is the tool's.
func New(p *plan.Plan, version string, o Options) Record {
	r := Record{
		Metalcast: version, Options: o,
		Source:  Source{Repo: p.Source.Repo, Revision: p.Source.Revision, Shards: shardsOf(p.Source)},
		Dropped: p.DroppedGroups(),
	}
	r.Options.Layout = string(p.Layout)
	if o.MaxShardSize == 0 {
		r.Options.MaxShardSize = plan.DefaultShardSize
	}
	if q := p.Quantized; q != nil {
		r.Options.Quantize = &Quantize{
			Mode: q.Format.Mode.String(), Bits: q.Format.Bits, GroupSize: q.Format.GroupSize,
			Predicate: q.Recipe, Profile: q.Profile.String(), Overrides: o.Quantize.Overrides,
		}
	}
	return r
}

func shardsOf(v *checkpoint.Inventory) (list []Shard) {
	for i := range v.Shards {
		s := &v.Shards[i]
		list = append(list, Shard{s.Name, s.Size, hex.EncodeToString(s.HeaderSum[:])})
	}
	return list
}

// Read reads metalcast.json of a directory.
func Read(dir string) (*Record, error) {
	text, err := checkpoint.ReadSmall(filepath.Join(dir, plan.ProvenanceName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.Incomplete("", "there is none")
	}
	if err != nil {
		return nil, err
	}
	return parse(text)
}

// parse is strict: it refuses unknown keys, keys in other letters or twice, invalid UTF-8, and
// anything that follows.
func parse(text []byte) (*Record, error) {
	r := new(Record)
	if err := strictjson.Unmarshal(text, r, strictjson.RejectUnknownMembers(true)); err != nil {
		return nil, fault.Corrupt("", "%v", err)
	}
	return r, nil
}

// Differs says how a source differs from the one of the record; "" if it does not.
func (s *Source) Differs(v *checkpoint.Inventory) string {
	had, have := s.Shards, shardsOf(v)
	if len(had) != len(have) {
		return fmt.Sprintf("of %s, %s has %d", fault.Plural(len(had), "shard", "shards"), v.Dir, len(have))
	}
	for i, x := range had {
		switch y := have[i]; {
		case x.Name != y.Name:
			return fmt.Sprintf("with a shard %q, %s has %q in its place", x.Name, v.Dir, y.Name)
		case x.Bytes != y.Bytes:
			return fmt.Sprintf("its %s was %d bytes long, that of %s is %d", x.Name, x.Bytes, v.Dir, y.Bytes)
		case x.Header != y.Header:
			return fmt.Sprintf("its %s had another header than that of %s", x.Name, v.Dir)
		}
	}
	// A fine-tune may have the same headers.
	if was := s.Repo; was != "" && v.Repo != "" && was != v.Repo {
		return fmt.Sprintf("%s is %s", v.Dir, v.Repo)
	}
	return ""
}

// SameShards reports whether a checkpoint has the source's shards.
func (s *Source) SameShards(v *checkpoint.Inventory) bool {
	return slices.Equal(s.Shards, shardsOf(v))
}

// Text returns the record as it is written.
func (r *Record) Text() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// Size returns the length of the record's text once it has the sums of all files, and of the shards
// too if hashes is set.
func (r Record) Size(p *plan.Plan, hashes bool) int64 {
	none := hex.EncodeToString(make([]byte, sha256.Size))
	r.Files = map[string]string{}
	for _, f := range p.Files {
		r.Files[f.Name] = none
	}
	for _, t := range p.Texts {
		r.Files[t.Name] = none
	}
	if hashes {
		for _, s := range p.Shards {
			r.Files[s.Name] = none
		}
	}
	text, err := r.Text()
	if err != nil {
		return 0
	}
	return int64(len(text))
}
