package family

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
)

// CheckWhole finds tensors that a model lacks inside its layers, by two rules: layers of one kind
// have the same modules, and some modules always come together. A listed family has no such gaps,
// so a gap is an error; in other models, and in those that vary their layers on purpose, it is a
// warning.
func (f *Family) CheckWhole(v *checkpoint.Inventory, sites []Site) (warnings []string, err error) {
	towers, order := f.towers(v, sites)
	strict := f.Known() && !variesLayers(v.Config)
	// In it, modules may have formats of their own, or none.
	mixed := v.Config.Get("quantization").IsObject()
	for _, stem := range order {
		t := towers[stem]
		gaps := append(f.widowed(v.Config, t), t.ends(v, stem)...)
		if !mixed {
			gaps = append(t.uneven(), gaps...)
		}
		for _, gap := range gaps {
			if strict && isLanguage(stem) {
				return nil, fault.Incomplete(gap.where, "%s is in no shard; %s", gap.tensor, gap.why)
			}
			if len(warnings) < mostGaps {
				warnings = append(warnings, fmt.Sprintf("%s: %s is in no shard; %s", gap.where, gap.tensor, gap.why))
			}
		}
	}
	return warnings, nil
}

// mostGaps bounds how many gaps are listed; a model that varies its layers may have hundreds.
const mostGaps = 4

// mostParts is how many dots a name may have to be examined part by part. No model's has a quarter
// as many, and a header may contain one of a megabyte.
const mostParts = 64

// gap is a tensor that is missing.
type gap struct{ where, tensor, why string }

// node is a module of one layer and what is directly in it: modules and tensors.
type node struct {
	layer    int
	prefix   string   // "model.layers.3.self_attn."
	children []string // sorted, without repetitions
}

// tower is the layers under one stem, such as "model.layers.".
type tower struct {
	layers int
	// By the module's place in a layer, in which every number is *: "mlp.experts.*.".
	nodes map[string][]*node
	paths []string // the keys of nodes, sorted
	kind  func(layer int) string
}

// towers collects the modules of all layers. The experts of a listed family count as one: Groups
// has checked them.
func (f *Family) towers(v *checkpoint.Inventory, sites []Site) (map[string]*tower, []string) {
	n := Layers(v.Config)
	towers := map[string]*tower{}
	at := map[string]*node{}
	for i := range sites {
		s := &sites[i]
		name := s.Tensor.Name
		if s.Role == Scale || s.Role == Drop || strings.HasSuffix(name, ".rotary_emb.inv_freq") {
			continue
		}
		if s.Role == Expert {
			name = strings.TrimSuffix(s.Group, ".")
		}
		if strings.Count(name, ".") > mostParts {
			continue
		}
		stem, layer, ok := anyLayer(name)
		if !ok || isLanguage(stem) && n > 0 && layer >= n {
			continue
		}
		t := towers[stem]
		if t == nil {
			t = &tower{nodes: map[string][]*node{}, kind: func(int) string { return "" }}
			if isLanguage(stem) {
				t.kind = layerKinds(v.Config, n)
			}
			towers[stem] = t
		}
		t.layers = max(t.layers, layer+1)
		begin := len(stem) + len(strconv.Itoa(layer)) + 1
		for from := begin; ; {
			part, _, more := strings.Cut(name[from:], ".")
			x := at[name[:from]]
			if x == nil {
				x = &node{layer: layer, prefix: name[:from]}
				at[name[:from]] = x
				place := starred(name[begin:from])
				t.nodes[place] = append(t.nodes[place], x)
			}
			x.children = append(x.children, part)
			if !more {
				break
			}
			from += len(part) + 1
		}
	}
	var order []string
	for stem, t := range towers {
		order = append(order, stem)
		for path, list := range t.nodes {
			t.paths = append(t.paths, path)
			for _, x := range list {
				slices.Sort(x.children)
				x.children = slices.Compact(x.children)
			}
			slices.SortFunc(list, func(a, b *node) int { return a.layer - b.layer })
		}
		slices.Sort(t.paths)
	}
	slices.Sort(order)
	return towers, order
}

// starred replaces the numbers of a path: "mlp.experts.3." becomes "mlp.experts.*.".
func starred(path string) string {
	if !strings.ContainsAny(path, "0123456789") {
		return path
	}
	parts := strings.Split(path, ".")
	for i, p := range parts {
		if _, err := strconv.Atoi(p); err == nil {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

// uneven finds modules that have less than the same module in another layer of the kind. If two
// modules each have something of their own, neither lacks anything: an MLP and a mixture of
// experts, two sorts of attention.
func (t *tower) uneven() (gaps []gap) {
	for _, path := range t.paths {
		kinds := map[string]map[string][]*node{} // by the layer's kind and the children
		for _, x := range t.nodes[path] {
			k := t.kind(x.layer)
			if kinds[k] == nil {
				kinds[k] = map[string][]*node{}
			}
			have := strings.Join(x.children, " ")
			kinds[k][have] = append(kinds[k][have], x)
		}
		for _, forms := range kinds {
			likes := forms
			if len(forms) > mostForms {
				likes = commonest(forms)
			}
			for _, few := range forms {
				for _, many := range likes {
					if x, y := few[0], many[0]; len(x.children) < len(y.children) && len(few) <= len(many) && contains(y.children, x.children) {
						lost := y.children[slices.IndexFunc(y.children, func(c string) bool { return !slices.Contains(x.children, c) })]
						gaps = append(gaps, gap{fmt.Sprintf("layer %d", x.layer), x.prefix + lost, "layer " + strconv.Itoa(y.layer) + " has its like"})
					}
				}
			}
		}
	}
	slices.SortFunc(gaps, func(a, b gap) int { return strings.Compare(a.tensor, b.tensor) })
	return slices.CompactFunc(gaps, func(a, b gap) bool { return a.tensor == b.tensor })
}

// mostForms is how many forms of a module are compared with each other; if there are more, as in no
// model, each is compared only with the most frequent.
const mostForms = 64

func commonest(forms map[string][]*node) map[string][]*node {
	best := ""
	for have, list := range forms {
		if n := len(list) - len(forms[best]); n > 0 || n == 0 && have < best {
			best = have
		}
	}
	return map[string][]*node{best: forms[best]}
}

// contains reports whether all of some are in list; both are sorted.
func contains(list, some []string) bool {
	for _, s := range some {
		at, found := slices.BinarySearch(list, s)
		if !found {
			return false
		}
		list = list[at+1:]
	}
	return true
}

// anyLayer splits the name of a tensor in a numbered layer of any model, as layerOf does for listed
// families.
func anyLayer(name string) (stem string, layer int, ok bool) {
	if stem, layer, ok = layerOf(name); ok {
		return stem, layer, true
	}
	for at := 0; ; {
		part, rest, more := strings.Cut(name[at:], ".")
		if !more {
			return "", 0, false
		}
		at += len(part) + 1
		number, _, _ := strings.Cut(rest, ".")
		if slices.Contains([]string{"layers", "layer", "h", "blocks", "block"}, part) {
			l, err := strconv.Atoi(number)
			return name[:at], l, err == nil && strconv.Itoa(l) == number && l >= 0
		}
	}
}

// isLanguage reports whether a stem contains a language model's layers.
func isLanguage(stem string) bool { return slices.Contains(layerPrefixes, stem) }

// layerKinds distinguishes layers by what the config says of each: every list with an entry for
// each layer, every text with a letter for each, and the settings that number layers.
func layerKinds(c *checkpoint.Config, n int) func(layer int) string {
	text := c.Get("text_config")
	if !text.IsObject() {
		text = gjson.ParseBytes(c.Text)
	}
	var lists [][]string
	text.ForEach(func(key, value gjson.Result) bool {
		var list []string
		switch name := key.String(); {
		case !hasPart(name, "layer", "pattern", "type", "block", "attn", "attention", "freq", "ratio", "moe", "mlp"):
		case value.IsArray():
			for _, x := range value.Array() {
				list = append(list, x.Raw)
			}
		case value.Type == gjson.String && strings.Contains(name, "pattern"):
			list = strings.Split(value.String(), "")
		}
		if len(list) >= n && n > 0 {
			lists = append(lists, list)
		}
		return true
	})
	period := int(c.TextSetting("layer_group_size").Int()) // of Bailing's linear models
	// Hunyuan, whose layers take keys and values from others.
	share := int(c.TextSetting("cla_share_factor").Int())
	shared := n - int(c.TextSetting("num_kv_shared_layers").Int())
	kinds := make([]string, n)
	for layer := range n {
		var b strings.Builder
		for _, list := range lists {
			b.WriteString(list[layer] + " ")
		}
		if period > 0 {
			fmt.Fprint(&b, (layer+1)%period == 0 || layer >= n/period*period)
		}
		if share > 0 {
			fmt.Fprint(&b, layer%share == 0)
		}
		kinds[layer] = b.String() + strconv.FormatBool(layer < shared)
	}
	return func(layer int) string {
		if layer >= n { // if the config has no number
			return ""
		}
		return kinds[layer]
	}
}

// variesLayers reports whether the config says that layers were searched or pruned one by one.
func variesLayers(c *checkpoint.Config) bool {
	for _, key := range []string{"block_configs", "drop_attn_list", "drop_mlp_list", "pruned_layers"} {
		if r := c.TextSetting(key); r.IsArray() && len(r.Array()) > 0 || r.IsObject() {
			return true
		}
	}
	return false
}

func hasPart(name string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(name, p) })
}

// pair is a module that comes together with one of others.
type pair struct {
	has   string
	needs []string
}

// pairs are modules, and tensors, that no listed family has without one of others.
var pairs = []pair{
	{"bias", []string{"weight"}},
	{"q_proj", []string{"o_proj", "out_proj"}}, {"k_proj", []string{"q_proj"}}, {"k_proj", []string{"o_proj", "out_proj"}}, {"v_proj", []string{"k_proj"}},
	{"o_proj", []string{"q_proj", "q_b_proj", "qkv_proj", "in_proj_qkv"}},
	{"k_norm", []string{"q_norm"}},
	{"q_a_proj", []string{"q_a_layernorm"}}, {"q_a_proj", []string{"q_b_proj"}}, {"q_b_proj", []string{"q_a_proj"}},
	{"kv_a_proj_with_mqa", []string{"kv_a_layernorm"}}, {"kv_a_proj_with_mqa", []string{"kv_b_proj", "embed_q"}}, {"kv_b_proj", []string{"kv_a_proj_with_mqa"}},
	{"embed_q", []string{"unembed_out"}}, {"unembed_out", []string{"embed_q"}},
	{"gate_proj", []string{"up_proj"}}, {"up_proj", []string{"down_proj"}}, {"down_proj", []string{"up_proj", "gate_up_proj", "gate_and_up_proj"}},
	{"gate_up_proj", []string{"down_proj"}},
	{"experts", []string{"gate", "router"}}, {"switch_mlp", []string{"gate", "router"}},
	{"conv1d", []string{"A_log"}}, {"conv1d", []string{"out_proj"}}, {"conv1d", []string{"norm"}}, {"A_log", []string{"dt_bias"}}, {"dt_bias", []string{"A_log"}}, {"A_log", []string{"conv1d", "q_conv1d"}},
	{"in_proj_qkv", []string{"in_proj_z"}}, {"in_proj_z", []string{"in_proj_qkv"}}, {"in_proj_a", []string{"in_proj_b"}}, {"in_proj_b", []string{"in_proj_a"}},
	{"in_proj_qkvz", []string{"in_proj_ba"}}, {"in_proj_ba", []string{"in_proj_qkvz"}},
	{"input_layernorm", mixers}, {"post_attention_layernorm", forwards},
}

// The modules of which a layer has one: attention or its replacement, and what feeds forward.
var (
	mixers   = []string{"self_attn", "linear_attn", "attention"}
	forwards = []string{"mlp", "mlps", "block_sparse_moe", "moe", "feed_forward"}
)

// whole reports for each layer whether it is a whole one, by its norms, rather than a few of its
// tensors as in tests, of which nothing is demanded. Nemotron-H's layers have one norm and one
// mixer.
func (t *tower) whole() map[int]bool {
	list := map[int]bool{}
	for _, x := range t.nodes[""] {
		list[x.layer] = contains(x.children, []string{"input_layernorm", "post_attention_layernorm"}) || contains(x.children, []string{"norm", "mixer"})
	}
	return list
}

// ends finds what a language model lacks around its layers: embeddings, and the norm after the last
// layer.
func (t *tower) ends(v *checkpoint.Inventory, stem string) (gaps []gap) {
	root, ok := strings.CutSuffix(stem, "layers.")
	whole := false
	for _, is := range t.whole() {
		whole = whole || is
	}
	if !ok || !whole || !isLanguage(stem) {
		return nil
	}
	for _, names := range [][]string{embeddings, {"norm.weight", "norm_f.weight", "final_layernorm.weight", "final_norm.weight"}} {
		if !slices.ContainsFunc(names, func(name string) bool { return v.Lookup(root+name) != nil }) {
			gaps = append(gaps, gap{v.Dir, root + names[0], "its layers are there"})
		}
	}
	return gaps
}

// widowed finds modules of a listed family that lack what they always come with.
func (f *Family) widowed(c *checkpoint.Config, t *tower) (gaps []gap) {
	if !f.Known() {
		return nil
	}
	rules := pairs
	if f.Experts == nil || f.Experts.Gate != "" {
		rules = append(slices.Clone(rules), pair{"up_proj", []string{"gate_proj"}})
	}
	if !sharesKV(c) {
		rules = append(slices.Clone(rules), pair{"q_norm", []string{"k_norm"}}, pair{"k_proj", []string{"v_proj"}}, pair{"q_proj", []string{"k_proj", "kv_a_proj_with_mqa"}})
	}
	whole := t.whole()
	for _, path := range t.paths {
		if strings.HasSuffix(path, "indexer.") { // of sparse attention, whose queries have no norm
			continue
		}
		for _, x := range t.nodes[path] {
			if !whole[x.layer] {
				continue
			}
			for _, p := range rules {
				if slices.Contains(x.children, p.has) && !slices.ContainsFunc(p.needs, func(n string) bool { return slices.Contains(x.children, n) }) {
					gaps = append(gaps, gap{fmt.Sprintf("layer %d", x.layer), x.prefix + p.needs[0], x.prefix + p.has + " is there"})
				}
			}
		}
	}
	return gaps
}

// sharesKV reports whether layers take keys from others, or values from keys.
func sharesKV(c *checkpoint.Config) bool {
	return c.TextSetting("cla_share_factor").Int() > 1 || c.TextSetting("num_kv_shared_layers").Int() > 0 || c.TextSetting("attention_k_eq_v").Bool()
}
