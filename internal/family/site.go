package family

import (
	"fmt"
	"math"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// Role is what happens to a tensor.
type Role uint8

// The roles.
const (
	Move   Role = iota + 1 // copied or cast
	Weight                 // FP8 with a scale: dequantized
	Expert                 // one expert's projection, FP8 or not
	Scale                  // the companion of an FP8 weight, consumed with it
	Drop                   // not in the output, for Reason
)

// Site is one source tensor and its role.
type Site struct {
	Tensor *checkpoint.Tensor
	Role   Role
	Scales *Scales // of a Weight, or an Expert in FP8
	Proj   string  // of an Expert: the projection's name
	Group  string  // of an Expert: everything before the expert's index, "model.layers.3.mlp.experts."
	Index  int     // of an Expert
	Reason string  // of a Drop
	Stray  bool    // of a Move: a scale that no table lists, for which runtimes have no place
}

// Options are what roles depend on.
type Options struct {
	KeepMTP     bool // keeps the multi-token prediction head
	TrustScales bool // reads scales with a doubtful meaning as plain rows of blocks
}

// Sites returns every tensor with its role, in the inventory's order.
func (f *Family) Sites(v *checkpoint.Inventory, o Options) ([]Site, error) {
	sizes, err := v.Config.BlockSizes()
	if err != nil {
		return nil, err
	}
	if err := f.checkSettings(v.Config); err != nil {
		return nil, err
	}
	if err := checkQuantization(v.Config); err != nil {
		return nil, err
	}
	c := classifier{Family: f, inv: v, opts: o, layers: Layers(v.Config), scales: findAllScales(v)}
	for _, b := range sizes {
		c.blocks = append(c.blocks, Block{b[0], b[1]})
	}
	if c.named = len(c.blocks) > 0; !c.named {
		c.blocks = []Block{{128, 128}}
	}
	for _, b := range c.blocks {
		c.forms = append(c.forms, fmt.Sprintf("blocks of %dx%d", b.Rows, b.Cols))
	}
	c.fp8 = slices.ContainsFunc(v.Tensors, func(t checkpoint.Tensor) bool { return t.DType == dtype.F8E4M3 })
	if o.KeepMTP && f.MTP.Refused != "" && (f.MTP.OnlyAt == 0 || f.MTP.OnlyAt != c.layers) {
		return nil, fault.Unsupported("--keep-mtp", "%s", f.MTP.Refused)
	}
	sites := make([]Site, len(v.Tensors))
	for i := range v.Tensors {
		if sites[i], err = c.site(i); err != nil {
			return nil, err
		}
	}
	return sites, nil
}

// checkSettings refuses numbers that cannot be counts: converting them to an integer has different
// results on different processors.
func (f *Family) checkSettings(c *checkpoint.Config) error {
	keys := []string{"num_hidden_layers", "num_layers", "num_attention_heads", "qk_nope_head_dim", "v_head_dim"}
	if f.Experts != nil {
		keys = append(keys, f.Experts.CountKeys...)
	}
	for _, key := range keys {
		if r := c.TextSetting(key); r.Type == gjson.Number && (r.Num < 0 || r.Num > 1<<53 || r.Num != math.Trunc(r.Num)) {
			return fault.Corrupt(checkpoint.ConfigName, "%s is %s, a whole number was expected", key, r.Raw)
		}
	}
	return nil
}

type classifier struct {
	*Family
	inv    *checkpoint.Inventory
	opts   Options
	layers int      // the config's number of hidden layers
	scales []found  // of each of the inventory's tensors
	blocks []Block  // sizes that the config names, or 128x128
	forms  []string // their names
	named  bool     // the config names them
	fp8    bool     // there are FP8 weights
}

func (c *classifier) site(i int) (Site, error) {
	t := &c.inv.Tensors[i]
	s := Site{Tensor: t}
	drop := func(reason string) (Site, error) {
		s.Role, s.Reason = Drop, reason
		return s, nil
	}
	if !c.opts.KeepMTP && c.IsMTP(t.Name, c.layers) {
		if c.MTP.Refused != "" && c.MTP.OnlyAt != c.layers {
			return drop("multi-token prediction head; " + c.MTP.Refused)
		}
		return drop("multi-token prediction head; --keep-mtp keeps it")
	}
	if reason := companion(t); reason != "" {
		return drop(reason)
	}
	if weight, sure := scaledBy(t.Name); weight != "" {
		w := c.inv.Lookup(weight)
		switch {
		case w != nil && w.DType == dtype.F8E4M3:
			s.Role = Scale
			return s, nil
		case sure && w == nil:
			return s, fault.Incomplete(t.String(), "a scale without its weight: %q is in no shard", weight)
		case sure && otherFP8(w.DType):
			return s, notE4M3(w)
		case sure:
			return s, fault.Corrupt(t.String(), "a scale of %q, which is %s and needs none", weight, w.DType)
		}
	}
	s.Role = Move
	var err error
	switch {
	case t.DType == dtype.F8E4M3:
		s.Role = Weight
		s.Scales, err = c.scalesOf(i)
	case otherFP8(t.DType):
		err = notE4M3(t)
	}
	if err == nil && c.fp8 && s.Role == Move {
		if err = c.checkStray(t); err == nil {
			err = c.checkStackStray(t)
		}
	}
	if err != nil {
		return s, err
	}
	s.Stray = s.Role == Move && c.isStrayScale(t)
	return s, c.expert(&s)
}

func notE4M3(t *checkpoint.Tensor) error {
	return fault.Unsupported(t.String(), "is %s, of the FP8 types only F8_E4M3 is converted", t.DType)
}

func otherFP8(t dtype.DType) bool {
	return t == dtype.F8E5M2 || t == dtype.F8E4M3FNUZ || t == dtype.F8E5M2FNUZ
}
