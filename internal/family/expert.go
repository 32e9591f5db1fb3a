package family

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// expert makes a site an Expert if its name says so: GROUP + index + "." + projection + ".weight".
func (c *classifier) expert(s *Site) error {
	if c.Experts == nil {
		return nil
	}
	name := s.Tensor.Name
	at := strings.Index(name, c.Experts.Infix)
	if at < 0 {
		return nil
	}
	at += len(c.Experts.Infix)
	digits, rest, ok := strings.Cut(name[at:], ".")
	if !ok || digits == "" || digits[0] < '0' || digits[0] > '9' {
		return nil // experts.gate_up_proj: stacked already
	}
	index, err := strconv.Atoi(digits)
	proj, isWeight := strings.CutSuffix(rest, ".weight")
	names := c.Experts.projections()
	switch {
	case err != nil || strconv.Itoa(index) != digits:
		return fault.Corrupt(s.Tensor.String(), "%q is no expert index", digits)
	case !isWeight || !slices.Contains(names, proj):
		return fault.Unsupported(s.Tensor.String(), "an expert has %s.weight; this is not one of them", strings.Join(names, ".weight, "))
	case len(s.Tensor.Shape) != 2:
		return fault.Corrupt(s.Tensor.String(), "shape is %v, a matrix was expected", s.Tensor.Shape)
	}
	group := name[:at]
	if alias := c.Experts.Alias; alias != "" && strings.HasSuffix(group, alias) {
		group = strings.TrimSuffix(group, alias) + c.Experts.Infix
	}
	s.Role, s.Proj, s.Group, s.Index = Expert, proj, group, index
	return nil
}

// IsApart reports whether a site belongs to one expert, and the family does not know how to stack
// it.
func IsApart(s *Site) bool {
	return (s.Role == Move || s.Role == Weight) && len(s.Tensor.Shape) == 2 && apart.MatchString(s.Tensor.Name)
}

var apart = regexp.MustCompile(`\.experts\.[0-9]+\.`)

// Group is the experts of one layer: for each projection its sites, by expert index.
type Group struct {
	Name  string // everything before the expert's index
	Where string // "layer 3", for messages
	Sites map[string][]*Site
}

// Groups collects the Expert sites of all layers and checks that each layer is complete: all
// projections, experts exactly 0..N-1, equal shape, type and scale layout, and N as in the config.
func (f *Family) Groups(v *checkpoint.Inventory, sites []Site) ([]*Group, error) {
	if f.Experts == nil {
		return nil, nil
	}
	byName := map[string]*Group{}
	for i := range sites {
		s := &sites[i]
		if s.Role != Expert {
			continue
		}
		g := byName[s.Group]
		if g == nil {
			g = &Group{Name: s.Group, Where: layerName(s.Group, f.Experts.Infix), Sites: map[string][]*Site{}}
			byName[s.Group] = g
		}
		g.Sites[s.Proj] = append(g.Sites[s.Proj], s)
	}
	groups := make([]*Group, 0, len(byName))
	for _, g := range byName {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *Group) int { return cmp.Compare(a.Name, b.Name) })
	want := f.expertCount(v.Config)
	for _, g := range groups {
		if err := f.checkGroup(g, want); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// layerName reads "layer 3" out of "model.language_model.layers.3.mlp.experts.".
func layerName(group, infix string) string {
	prefix := strings.TrimSuffix(group, infix)
	number := prefix[strings.LastIndexByte(prefix, '.')+1:]
	if strings.HasPrefix(prefix, "mtp.") {
		return "mtp layer " + number
	}
	return "layer " + number
}

// count is a number of experts and the config key that says it: "num_experts 256".
type count struct {
	n   int
	key string
}

func (c count) String() string { return fmt.Sprintf("%s %d", c.key, c.n) }

// expertCount returns the config's number of experts, 0 if it has none.
func (f *Family) expertCount(c *checkpoint.Config) count {
	for _, key := range f.Experts.CountKeys {
		if n := int(c.TextSetting(key).Int()); n > 0 {
			return count{n, key}
		}
	}
	return count{}
}

func (f *Family) checkGroup(g *Group, want count) error {
	e := f.Experts
	names := e.projections()
	for _, proj := range names {
		list := g.Sites[proj]
		if len(list) == 0 {
			return fault.Incomplete(g.Where, "%s is missing from every expert", proj)
		}
		slices.SortFunc(list, func(a, b *Site) int { return cmp.Compare(a.Index, b.Index) })
		if err := checkIndices(g.Where, proj, list, want); err != nil {
			return err
		}
		for _, s := range list[1:] {
			if err := sameForm(g.Where+", "+proj, list[0], s, e.Transposed); err != nil {
				return err
			}
		}
	}
	up, down := g.Sites[e.Up], g.Sites[e.Down]
	for _, proj := range names {
		if list := g.Sites[proj]; len(list) != len(up) {
			return fault.Incomplete(g.Where, "%d experts have %s, %d have %s", len(list), proj, len(up), e.Up)
		}
	}
	if e.Gate != "" {
		if err := sameForm(g.Where, g.Sites[e.Gate][0], up[0], e.Transposed); err != nil {
			return err
		}
	}
	a, b := up[0].Tensor.Shape, down[0].Tensor.Shape
	if a[0] != b[1] || a[1] != b[0] {
		return fault.Corrupt(g.Where, "%s is %v and %s is %v; one should be the other's transpose in shape", names[0], a, e.Down, b)
	}
	if x, y := down[0], up[0]; x.Tensor.DType != y.Tensor.DType && (e.Transposed || !x.becomesBF16() || !y.becomesBF16()) {
		return fault.Corrupt(g.Where, "%s is %s and %s is %s", names[0], up[0].Tensor.DType, e.Down, down[0].Tensor.DType)
	}
	if want.n > 0 && len(up) != want.n {
		return fault.Corrupt(g.Where, "%d experts, config.json says %v", len(up), want)
	}
	return nil
}

// interval is the indices from first to last.
type interval struct{ first, last int }

// checkIndices demands 0..n-1, each once; list is sorted, and its indices differ, because its names
// do. Gaps inside what is there come first: they more surely indicate a lost file.
func checkIndices(where, proj string, list []*Site, want count) error {
	var found, missing []interval
	next := 0
	for _, s := range list {
		if s.Index > next {
			missing = append(missing, interval{next, s.Index - 1})
		}
		if n := len(found) - 1; n >= 0 && found[n].last == s.Index-1 {
			found[n].last = s.Index
		} else {
			found = append(found, interval{s.Index, s.Index})
		}
		next = s.Index + 1
	}
	switch {
	case len(missing) == 0 && next >= want.n:
		return nil
	case len(missing) == 0:
		return fault.Incomplete(where+", "+proj, "experts end at %d, config.json says %v", next-1, want)
	}
	if next < want.n {
		missing = append(missing, interval{next, want.n - 1})
	}
	verb := "is"
	if len(missing) > 1 || missing[0].first != missing[0].last {
		verb = "are"
	}
	return fault.Incomplete(where+", "+proj, "expert indices are non-contiguous: %s %s missing (found %s)", intervals(missing), verb, intervals(found))
}

// intervals returns "0-16, 18-255", and at most 8 intervals.
func intervals(list []interval) string {
	var parts []string
	for i, s := range list {
		switch {
		case i == 8:
			return strings.Join(parts, ", ") + " and more"
		case s.first == s.last:
			parts = append(parts, strconv.Itoa(s.first))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", s.first, s.last))
		}
	}
	return strings.Join(parts, ", ")
}

// becomesBF16 reports whether a site's tensor becomes BF16 if nothing else is asked for.
func (s *Site) becomesBF16() bool { return s.Scales != nil || s.Tensor.DType == dtype.BF16 }

// sameForm demands equal shapes of two experts' matrices, and, unless they all become BF16 and are
// not transposed side by side, equal types and scale layouts.
func sameForm(where string, a, b *Site, transposed bool) error {
	name := func(s *Site) string { return fmt.Sprintf("expert %d's %s", s.Index, s.Proj) }
	x, y := a.Tensor, b.Tensor
	switch {
	case !slices.Equal(x.Shape, y.Shape):
		return fault.Corrupt(where, "%s has shape %v, %s has %v", name(a), x.Shape, name(b), y.Shape)
	case !transposed && a.becomesBF16() && b.becomesBF16() && (a.Scales == nil || b.Scales == nil || a.Scales.Block == b.Scales.Block):
		return nil // each is dequantized, or moved, separately
	case x.DType != y.DType:
		return fault.Corrupt(where, "%s is %s, %s is %s", name(a), x.DType, name(b), y.DType)
	case a.Scales == nil:
		return nil
	case a.Scales.Block != b.Scales.Block || a.Scales.Type != b.Scales.Type:
		return fault.Corrupt(where, "%s has %s scales, %s; %s has %s, %s",
			name(a), a.Scales.Type, a.Scales.Form, name(b), b.Scales.Type, b.Scales.Form)
	}
	return nil
}
