package synth

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// Shards if the options specify neither their number nor their size: 4, or more so that none
// exceeds 4 GiB.
const (
	defaultShards    = 4
	defaultShardSize = 4 << 30
)

// shard is a file to write: its header and its tensors in the order of their data.
type shard struct {
	name    string
	header  []byte
	tensors []tensor
}

func (s *shard) size() int64 {
	return int64(len(s.header)) + s.tensors[len(s.tensors)-1].End
}

// split distributes tensors, in the order of their names, over count shards of about equal size, or
// over as many shards of at most limit bytes as needed; 0 leaves the choice.
//
// If possible, a shard ends with an FP8 weight whose scale is the first tensor of the next one, as
// happens in published checkpoints.
func split(tensors []tensor, count int, limit int64) ([]shard, error) {
	var total int64
	for i := range tensors {
		total += tensors[i].bytes()
	}
	switch {
	case count > len(tensors):
		return nil, usage("--shards", "%d, the checkpoint has only %d tensors", count, len(tensors))
	case count == 0 && limit == 0 && total <= defaultShards*defaultShardSize:
		count = min(defaultShards, len(tensors))
	case count == 0 && limit == 0:
		limit = defaultShardSize
	}
	var shards []shard
	for rest := tensors; len(rest) > 0; {
		n, most := len(rest), limit
		if count > 0 {
			left := count - len(shards)
			// each of the others needs at least one tensor
			n, most = len(rest)-left+1, (total+int64(left)-1)/int64(left)
		}
		if count == 0 || len(shards) < count-1 {
			n = cut(rest[:n], most)
		}
		for i := range n {
			total -= rest[i].bytes()
		}
		shards = append(shards, shard{tensors: slices.Clone(rest[:n])})
		rest = rest[n:]
	}
	for i := range shards {
		shards[i].name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		shards[i].arrange()
	}
	if len(shards) == 1 {
		shards[0].name = "model.safetensors"
	}
	return shards, nil
}

// cut returns how many tensors make a shard of at most limit bytes, at least one.
func cut(tensors []tensor, limit int64) int {
	var at int64
	whole, apart := 1, 0
	for i := range tensors {
		if at += tensors[i].bytes(); at > limit {
			if apart > 0 {
				return apart
			}
			return whole
		}
		whole = i + 1
		if i > 0 && tensors[i].DType == dtype.F8E4M3 { // its scale is next in the order of names
			apart = i + 1
		}
	}
	return len(tensors)
}

// arrange sorts the tensors into the order in which the safetensors library writes them, greater
// dtypes first, then by name, so that scales are far from their weights, and makes the header.
func (s *shard) arrange() {
	slices.SortFunc(s.tensors, func(a, b tensor) int {
		return cmp.Or(cmp.Compare(b.DType, a.DType), cmp.Compare(a.Name, b.Name))
	})
	entries := make([]safetensors.Tensor, len(s.tensors))
	var at int64
	for i := range s.tensors {
		t := &s.tensors[i]
		t.Begin = at
		at += t.bytes()
		t.End = at
		entries[i] = t.Tensor
	}
	s.header = safetensors.Encode(entries, "pt", 8)
}
