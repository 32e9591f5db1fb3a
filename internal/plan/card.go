package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
)

const maxCard = 16 << 20

// writeTexts sets Files and Texts: what is copied, the model card, the index, and config.json last,
// because a directory with a config counts as a model.
func (p *Plan) writeTexts(o Options) error {
	v := p.Source
	var card []byte
	for _, f := range v.Files {
		if f.Name != checkpoint.CardName {
			p.Files = append(p.Files, f)
			continue
		}
		var err error
		if card, err = v.ReadFile(f.Name, maxCard); err != nil {
			return err
		}
	}
	modelType := ""
	if p.Layout == family.MLX && !p.Family.LoadsInMLX(v.Config) {
		modelType = p.Family.Name() // only mlx-lm reads this form
	}
	config, err := convertedConfig(v.Config, p.DType, modelType)
	if err == nil && p.Layout == family.MLX {
		config, err = p.nativeConfig(config)
	}
	if err != nil {
		return fault.In(checkpoint.ConfigName, err)
	}
	index, err := p.index()
	if err != nil {
		return fault.In(checkpoint.IndexName, err)
	}
	p.Texts = []Text{
		{checkpoint.CardName, p.card(string(card), o.Tool)},
		{checkpoint.IndexName, index},
		{checkpoint.ConfigName, config},
	}
	return nil
}

// card adds a note about the conversion at the top of the model card, and the source's hub id to
// its front matter as base_model.
func (p *Plan) card(text, tool string) []byte {
	front, body := cutCard(text)
	if tame(front) {
		front = withBaseModel(front, p.Source.Repo)
		if p.Layout == family.MLX {
			front = withLibrary(front)
		}
	}
	from := "an FP8 checkpoint"
	if p.Form.FP8 == 0 {
		from = "a checkpoint"
	}
	if p.Source.Repo != "" {
		from = "`" + p.Source.Repo + "`"
		if p.Source.Revision != "" {
			from += " (revision " + p.Source.Revision + ")"
		}
	}
	below := ""
	if body != "" {
		below = " The text below is the source's."
	}
	var b bytes.Buffer
	if front != "" {
		fmt.Fprintf(&b, "---\n%s---\n", front)
	}
	to := p.DType.ConfigName()
	if p.Quantized != nil {
		to = fmt.Sprintf("%s, %d bits in groups of %d", p.Quantized.Format.Mode, p.Quantized.Format.Bits, p.Quantized.Format.GroupSize)
	}
	fmt.Fprintf(&b, "> Converted from %s to %s, %s layout, by %s.%s\n", from, to, p.LayoutName(), tool, below)
	if body != "" {
		b.WriteString("\n" + body)
	}
	return b.Bytes()
}

var (
	// frontMatter is huggingface_hub's REGEX_YAML_BLOCK (repocard.py), with Python's notion of a
	// space.
	frontMatter = regexp.MustCompile(`^[\t-\r\x1c-\x1f\x{85}\p{Z}]*---(?:\r\n|\r|\n)([\S\s]*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$)`)
	lineEnds    = strings.NewReplacer("\r\n", "\n", "\r", "\n")
	// earlierNote matches what card added to a checkpoint that is now converted again.
	earlierNote = regexp.MustCompile("^> Converted from (?:an FP8 checkpoint|a checkpoint|`[^`\r\n]*`(?: \\(revision [^)\r\n]*\\))?) to [^\r\n]*, [a-z-]+ layout, by metalcast[^\r\n]*(?:[\r\n]+|$)")
)

// cutCard splits a model card into its front matter, "" if it has none, and the text below, where
// huggingface_hub's ModelCard splits it. Notes of earlier conversions are removed.
func cutCard(text string) (front, body string) {
	body = strings.TrimPrefix(text, "\uFEFF") // like Python's utf-8-sig
	if m := frontMatter.FindStringSubmatchIndex(body); m != nil {
		front, body = lineEnds.Replace(body[m[2]:m[3]])+"\n", body[m[1]:]
	}
	for {
		body = strings.TrimLeft(body, "\r\n")
		note := earlierNote.FindString(body)
		if note == "" {
			return front, body
		}
		body = body[len(note):]
	}
}

// alias is what lets a few lines of YAML stand for gigabytes: a node with a name, or one that
// repeats another.
var alias = regexp.MustCompile(`(?m)(^|[\s,\[{])[&*]\w`)

// tame reports whether front matter is cheap to parse: it may come from anyone, and YAML has no
// limits of its own.
func tame(front string) bool {
	return len(front) <= 64<<10 && strings.Count(front, "[")+strings.Count(front, "{") <= 1000 && !alias.MatchString(front)
}

// withBaseModel sets base_model in YAML front matter and leaves every other line as it is. It does
// not touch what does not parse.
func withBaseModel(front, repo string) string {
	if repo == "" {
		return front
	}
	return setYAML(front, "base_model", repo)
}

// withLibrary sets what mlx_lm sets in a card's front matter: library_name, pipeline_tag and the
// tag mlx. It does not touch what does not parse.
func withLibrary(front string) string {
	var card struct {
		Tags any `yaml:"tags"`
	}
	if yaml.Unmarshal([]byte(front), &card) != nil {
		return front
	}
	tags := []any{}
	switch t := card.Tags.(type) {
	case []any:
		tags = t
	case string:
		tags = []any{t}
	}
	if !slices.Contains(tags, any("mlx")) {
		tags = append(tags, "mlx")
	}
	list, err := yaml.Marshal(tags)
	if err != nil {
		return front
	}
	for _, x := range []struct{ key, value string }{{"library_name", "mlx"}, {"pipeline_tag", "text-generation"}, {"tags", "\n" + strings.TrimRight(string(list), "\n")}} {
		front = setYAML(front, x.key, x.value)
	}
	return front
}

// setYAML sets a key of YAML front matter and leaves every other line as it is. It does not touch
// what is not a mapping.
func setYAML(front, key, value string) string {
	space := " "
	if strings.HasPrefix(value, "\n") {
		space = ""
	}
	line := key + ":" + space + value + "\n"
	file, err := parser.ParseBytes([]byte(front), parser.ParseComments)
	if err != nil {
		return front
	}
	if len(file.Docs) > 0 && file.Docs[0].Body != nil {
		if _, ok := file.Docs[0].Body.(ast.MapNode); !ok {
			return front
		}
	}
	path, err := yaml.PathString("$." + key)
	if err != nil {
		return front
	}
	if _, err := path.FilterFile(file); err != nil { // not there yet
		return front + line
	}
	if err := path.ReplaceWithReader(file, strings.NewReader(value)); err != nil {
		return front
	}
	return strings.TrimRight(file.String(), "\n") + "\n"
}

// note collects what a person should know and no error reports: about the source, then about the
// output.
func (p *Plan) note() {
	c := p.Source.Config
	p.SourceNotes = append(p.SourceNotes, p.Source.Notes...)
	if !p.Family.Known() {
		p.SourceNotes = append(p.SourceNotes, fmt.Sprintf("model_type %q is not a family that metalcast knows: FP8 weights are dequantized in place and names are unchanged; whether a runtime loads the result is not known", c.ModelType()))
	} else if t := c.ModelType(); !p.Family.LoadsInMLX(c) && p.Layout != family.MLX {
		p.SourceNotes = append(p.SourceNotes, fmt.Sprintf("mlx-lm does not know model_type %q; for mlx-lm set it to %q in a copy of config.json (mlx-vlm and transformers need it as it is)", t, p.Family.Name()))
	}
	if n := len(p.stray); n > 0 {
		p.SourceNotes = append(p.SourceNotes, fmt.Sprintf("%d tensors beside attention's projections are nothing that metalcast knows and are copied as they are; the first is %s", n, p.stray[0]))
	}
	if n := len(p.apart); n > 0 {
		p.SourceNotes = append(p.SourceNotes, fmt.Sprintf("%d tensors are of one expert each and stay so, for metalcast does not know whether runtimes want them stacked; the first is %s", n, p.apart[0]))
	}
	p.SourceNotes = append(p.SourceNotes, p.gaps...)
	if problem := p.Family.SizeProblem(p.Source); problem != "" {
		p.SourceNotes = append(p.SourceNotes, problem)
	}
	if problem := p.headProblem(); problem != "" {
		p.SourceNotes = append(p.SourceNotes, problem)
	}
	p.Notes = append(p.Notes, p.SourceNotes...)
	if n := p.halves(); n > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%d tensors stay float16 beside bfloat16 weights; MLX computes in float32 where the two meet, slower and with more memory; --dtype bfloat16 casts them", n))
	}
	if p.Invert {
		p.Notes = append(p.Notes, "scales are taken for reciprocals: each weight is its code times 1/scale")
	}
	if len(p.Source.LeftOut) > 0 {
		p.Notes = append(p.Notes, "not copied: "+strings.Join(p.Source.LeftOut, ", "))
	}
	if p.keepsMTP() || !p.Family.Known() {
		return
	}
	for _, key := range []string{"mtp_num_hidden_layers", "num_nextn_predict_layers", "num_mtp_modules"} {
		if n := c.TextSetting(key); n.Int() > 0 {
			p.Notes = append(p.Notes, fmt.Sprintf("config.json still says %s %d; the output has no multi-token prediction head", key, n.Int()))
		}
	}
}

// LayoutName describes the layout in words that also suit models without experts.
func (p *Plan) LayoutName() string {
	if p.Layout != family.MLX && (p.Family.Experts == nil || p.Family.Experts.GateUpName == "" && p.Form.Stacked) {
		return "unchanged"
	}
	return string(p.Layout)
}

// MLXProblem returns why mlx-lm does not load the output, or why that is not known; "" if it does.
func (p *Plan) MLXProblem() string {
	f := p.Family
	misfit := cmp.Or(p.headProblem(), f.SizeProblem(p.Source)) // each looks at all tensors
	switch t := p.Source.Config.ModelType(); {
	case !f.Known():
		return fmt.Sprintf("model_type %q is not a family that metalcast knows; names are unchanged", t)
	case len(p.stray) > 0:
		return fmt.Sprintf("it has no place for %s", p.stray[0])
	case len(p.apart) > 0:
		return fmt.Sprintf("it has no place for %s", p.apart[0])
	case misfit != "":
		return misfit
	case p.Layout == family.MLX || p.Form.MLX:
		return ""
	case !f.LoadsInMLX(p.Source.Config):
		return fmt.Sprintf("it knows model_type %q, not %q", f.Name(), t)
	case f.Experts != nil && p.Layout != f.Auto && f.Auto == family.Stacked && !f.LoadsSeparate:
		return "it wants this family's experts stacked; convert without --layout"
	case f.Experts != nil && p.Layout == family.Stacked && f.Auto == family.PerExpert:
		return "it wants this family's experts one tensor each; convert without --layout"
	}
	return ""
}

// halves counts the float16 tensors of a language model that also has bfloat16 ones.
func (p *Plan) halves() (n int) {
	mixed := false
	for i := range p.Tensors {
		switch t := &p.Tensors[i]; {
		case p.Family.IsVision(t.Name):
		case t.DType == dtype.F16:
			n++
		case t.DType == dtype.BF16:
			mixed = true
		}
	}
	if !mixed {
		return 0
	}
	return n
}

// headProblem returns why mlx-lm's model of the family does not fit the output head, or its
// absence.
func (p *Plan) headProblem() string {
	return p.Family.HeadProblem(p.Source.Config, func(yield func(string) bool) {
		for i := range p.Tensors {
			if !yield(p.Tensors[i].Name) {
				return
			}
		}
	})
}

func (p *Plan) keepsMTP() bool {
	layers := family.Layers(p.Source.Config)
	for i := range p.Tensors {
		if p.Family.IsMTP(p.Tensors[i].Name, layers) {
			return true
		}
	}
	return false
}
