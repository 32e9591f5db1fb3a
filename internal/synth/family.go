package synth

import (
	"slices"
	"strings"
)

// family describes a model type: its tensors, how they are scaled, and its sizes. Its config.json
// is a template, files/config/NAME.json.
type family struct {
	name    string
	alias   string // another model_type that means the same
	release string // the published checkpoint whose structure it has

	reduced dims // sizes of a checkpoint by default
	full    dims // sizes of the release

	dialect     *dialect
	stacked     bool // its experts are published as one tensor per projection
	mtp, vision presence
	parts       func(o Options, d dims) []part
	config      func(m *model) object // instead of a template
	// what the template names in addition to config.go's values
	values  func(m *model) map[string]any
	sides   map[string]string              // files that accompany FP8: name -> template
	images  func() object                  // preprocessor_config.json, if there is a vision tower
	rejects func(m *model, t *tensor) bool // see tensors.go
}

// presence reports whether a checkpoint has a part.
type presence uint8

const (
	never presence = iota
	onDemand
	always
)

// part is a table of rows and where it applies: once, or in each of some layers, whose number
// replaces the prefix's "@".
type part struct {
	prefix  string
	layered bool
	layers  []int
	rows    []spec
	mtp     bool // a multi-token prediction head
}

func (p part) asMTP() part {
	p.mtp = true
	return p
}

func (p part) times() int {
	if p.layered {
		return len(p.layers)
	}
	return 1
}

func once(prefix string, tables ...[]spec) part {
	return part{prefix: prefix, rows: slices.Concat(tables...)}
}

// span applies a part to the layers from first up to, but not including, last.
func span(prefix string, first, last int, tables ...[]spec) part {
	var layers []int
	for l := first; l < last; l++ {
		layers = append(layers, l)
	}
	return in(prefix, layers, tables...)
}

func in(prefix string, layers []int, tables ...[]spec) part {
	return part{prefix: prefix, layered: true, layers: layers, rows: slices.Concat(tables...)}
}

// families lists all families, the default first.
var families = slices.Concat(qwen35, qwen3, deepSeek, glm, mistral, []*family{minimax, step, nemotron, llama4, bailing, hunyuan, longcat, ernie, mimo})

func familyOf(name string) (*family, bool) {
	for _, f := range families {
		if name == f.name || name == f.alias {
			return f, true
		}
	}
	return nil, false
}

// Families lists the families' names, the default first.
func Families() []string {
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = f.name
	}
	return names
}

func listed() string { return strings.Join(Families(), ", ") }
