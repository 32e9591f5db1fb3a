package plan

import (
	"cmp"
	"slices"
)

// DroppedGroup is the source tensors that are dropped for one reason.
type DroppedGroup struct {
	Reason  string   `json:"reason"`
	Bytes   int64    `json:"bytes"`
	Tensors []string `json:"tensors"`
}

// DroppedGroups returns the dropped tensors by reason, both in alphabetical order.
func (p *Plan) DroppedGroups() (groups []DroppedGroup) {
	at := map[string]int{}
	for _, d := range p.Dropped {
		i, ok := at[d.Reason]
		if !ok {
			i = len(groups)
			at[d.Reason] = i
			groups = append(groups, DroppedGroup{Reason: d.Reason})
		}
		groups[i].Bytes += d.Tensor.Size
		groups[i].Tensors = append(groups[i].Tensors, d.Tensor.Name)
	}
	for i := range groups {
		slices.Sort(groups[i].Tensors)
	}
	slices.SortFunc(groups, func(a, b DroppedGroup) int { return cmp.Compare(a.Reason, b.Reason) })
	return groups
}
