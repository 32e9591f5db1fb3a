package metalcast

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	strictjson "github.com/go-json-experiment/json"
	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/partial"
	"github.com/metalcast/metalcast/internal/plan"
)

// provenance is metalcast.json: where a converted checkpoint comes from, and everything that its bytes depend on. It holds no path, time or device.
type provenance struct {
	Metalcast string            `json:"metalcast"` // version
	Source    sourceRecord      `json:"source"`
	Options   optionsRecord     `json:"options"`
	Dropped   []DroppedGroup    `json:"dropped,omitempty"`
	Findings  []Finding         `json:"findings,omitempty"`
	Files     map[string]string `json:"sha256,omitempty"` // of the other files; of shards too where that was asked for
}

type sourceRecord struct {
	Repo     string        `json:"repo,omitempty"`
	Revision string        `json:"revision,omitempty"`
	Shards   []shardRecord `json:"shards"`
}

type shardRecord struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Header string `json:"header_sha256"`
}

type optionsRecord struct {
	Layout       string    `json:"layout"`
	DType        string    `json:"dtype,omitempty"`
	KeepMTP      bool      `json:"keep_mtp,omitempty"`
	Scales       string    `json:"scales,omitempty"`
	MaxShardSize int64     `json:"max_shard_size"`
	Quantize     *Quantize `json:"quantize,omitempty"`
}

func provenanceOf(p *plan.Plan, o Options) provenance {
	r := provenance{
		Metalcast: Version,
		Source:    sourceRecord{Repo: p.Source.Repo, Revision: p.Source.Revision},
		Options: optionsRecord{
			Layout: string(p.Layout), DType: o.DType, KeepMTP: o.KeepMTP, Scales: o.Scales, MaxShardSize: o.MaxShardSize,
		},
	}
	if r.Options.MaxShardSize == 0 {
		r.Options.MaxShardSize = plan.DefaultShardSize
	}
	r.Source.Shards = shardRecords(p.Source)
	if q := p.Quantized; q != nil { // what was left to defaults too
		r.Options.Quantize = &Quantize{
			Mode: q.Format.Mode.String(), Bits: q.Format.Bits, GroupSize: q.Format.GroupSize,
			Predicate: q.Recipe, Profile: q.Profile.String(), Overrides: o.Quantize.Overrides,
		}
	}
	r.Dropped = droppedGroups(p.Dropped)
	return r
}

func shardRecords(v *checkpoint.Inventory) (list []shardRecord) {
	for i := range v.Shards {
		s := &v.Shards[i]
		list = append(list, shardRecord{s.Name, s.Size, hex.EncodeToString(s.HeaderSum[:])})
	}
	return list
}

// otherSource says how a source differs from the one of a record, "" where it does not.
func otherSource(r *provenance, v *checkpoint.Inventory) string {
	had, have := r.Source.Shards, shardRecords(v)
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
	if was := r.Source.Repo; was != "" && v.Repo != "" && was != v.Repo { // a fine-tune may have the same headers
		return fmt.Sprintf("%s is %s", v.Dir, v.Repo)
	}
	return ""
}

// options are those that the record asks for again.
func (r *provenance) options() Options {
	o := r.Options
	return Options{Layout: o.Layout, DType: o.DType, KeepMTP: o.KeepMTP, Scales: o.Scales, MaxShardSize: o.MaxShardSize, Quantize: o.Quantize}
}

func (r *provenance) text() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// size is the length of the record's text once all sums are there.
func (r provenance) size(p *plan.Plan, o Options) int64 {
	none := hex.EncodeToString(make([]byte, sha256.Size))
	r.Files = map[string]string{}
	for _, f := range p.Files {
		r.Files[f.Name] = none
	}
	for _, t := range p.Texts {
		r.Files[t.Name] = none
	}
	if o.Hashes {
		for _, s := range p.Shards {
			r.Files[s.Name] = none
		}
	}
	text, err := r.text()
	if err != nil {
		return 0
	}
	return int64(len(text))
}

// stateOf is what a run must have in common with one that it goes on with: provenance, the files' times, and the plan itself.
func stateOf(p *plan.Plan, o Options) ([]byte, error) {
	state := struct {
		provenance
		Written []time.Time `json:"written"`
		Plan    string      `json:"plan"`
		Journal int         `json:"journal"` // its form
	}{provenance: provenanceOf(p, o), Journal: 2}
	state.Dropped = nil
	sum := sha256.New()
	for i := range p.Source.Shards {
		state.Written = append(state.Written, p.Source.Shards[i].Written.UTC())
	}
	for i := range p.Shards {
		sum.Write(p.Shards[i].Header)
	}
	var row []byte // formatting tens of thousands of pieces would show in the time of a small model
	for i := range p.Pieces {
		q := &p.Pieces[i]
		row = append(append(row[:0], q.Source.Name...), byte(q.Params.Op), byte(q.Params.From), byte(q.Params.To), byte(q.Params.ScaleType))
		for _, n := range []int64{int64(q.Params.BlockRows), int64(q.Params.BlockCols), q.Row, q.Rows, q.Cols, q.Code, q.Scales, int64(q.Target), q.Out, q.Line} {
			row = binary.LittleEndian.AppendUint64(row, uint64(n))
		}
		sum.Write(row)
	}
	for _, t := range p.Texts {
		fmt.Fprintln(sum, t.Name, len(t.Data), sha256.Sum256(t.Data))
	}
	state.Plan = hex.EncodeToString(sum.Sum(nil))
	return json.Marshal(state)
}

// whatDiffers names the first difference between the states of two runs.
func whatDiffers(had, have []byte) string {
	const quantize, version = "options.quantize", "another version of metalcast made it"
	a, b := gjson.ParseBytes(had), gjson.ParseBytes(have)
	for _, part := range []struct{ path, name, said string }{ // said: all of the message
		{"metalcast", "", version}, {"journal", "", version},
		{"source.repo", "the source's id", ""}, {"source.revision", "the source's revision", ""},
		{"source.shards", "", "its source had other shards"}, {"written", "", "a shard of the source was written since then"},
		{quantize, "-q", ""}, // given or not
		{"options.layout", "--layout", ""}, {"options.dtype", "--dtype", ""},
		{quantize + ".mode", "--q-mode", ""}, {quantize + ".bits", "--q-bits", ""}, {quantize + ".group_size", "--q-group-size", ""}, {quantize, "what -q asks for", ""},
		{"options.keep_mtp", "--keep-mtp", ""}, {"options.scales", "--scales", ""}, {"options.max_shard_size", "--max-shard-size", ""},
	} {
		x, y := a.Get(part.path), b.Get(part.path)
		switch {
		case x.Raw == y.Raw:
		case part.said != "":
			return part.said
		case part.name == "-q" && x.Exists() == y.Exists():
		case part.name == "-q" && x.Exists():
			return "-q was given and is not now"
		case part.name == "-q":
			return "-q was not given and is now"
		case x.IsArray() || y.IsArray() || len(x.Raw)+len(y.Raw) > 100:
			return part.name + " is another now"
		default:
			return fmt.Sprintf("%s was %s and is %s now", part.name, orNone(x), orNone(y))
		}
	}
	return "it would write other bytes"
}

func orNone(r gjson.Result) string {
	if !r.Exists() {
		return "not given"
	}
	return r.String()
}

// sumOf is the SHA-256 of a file just opened, which it closes.
func sumOf(f io.ReadCloser, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// shardSum is the SHA-256 of a shard of a directory.
func shardSum(d reader, shard int, size int64) (string, error) {
	return sumOf(io.NopCloser(io.NewSectionReader(shardReader{d, shard}, 0, size)), nil)
}

// parseProvenance reads a record, strictly: no key unknown, in other letters or twice, no invalid UTF-8, nothing behind it.
func parseProvenance(text []byte) (*provenance, error) {
	r := new(provenance)
	if err := strictjson.Unmarshal(text, r, strictjson.RejectUnknownMembers(true)); err != nil {
		return nil, fault.Corrupt("", "%v", err)
	}
	return r, nil
}

var _ reader = (*partial.Dir)(nil)
