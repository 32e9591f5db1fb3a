package record

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/plan"
)

// State returns what a conversion must have in common with the one that it resumes, as JSON on one
// line: the record, the times of the source's files, and the plan itself.
func (r Record) State(p *plan.Plan) ([]byte, error) {
	state := struct {
		Record
		Written []time.Time `json:"written"`
		Plan    string      `json:"plan"`
		Journal int         `json:"journal"` // its form
	}{Record: r, Journal: 2}
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

// WhatDiffers names the first difference between the states of two conversions.
func WhatDiffers(had, have []byte) string {
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
