package plan

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/family"
	"github.com/metalcast/metalcast/internal/fault"
)

const maxCard = 16 << 20

// writeTexts fills Files and Texts: what is copied, the model card, the index, and config.json last, for a directory with a config counts as a model.
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
	config, err := convertedConfig(v.Config, p.DType)
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

// card puts a note about the conversion on top of the model card, and the source's hub id into its front matter as base_model.
func (p *Plan) card(text, tool string) []byte {
	front, body := "", text
	if rest, ok := strings.CutPrefix(text, "---\n"); ok {
		if head, tail, ok := strings.Cut(rest, "\n---\n"); ok {
			front, body = head+"\n", tail
		}
	}
	front = withBaseModel(front, p.Source.Repo)
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
	if body = strings.TrimLeft(body, "\n"); body != "" {
		below = " The text below is the source's."
	}
	var b bytes.Buffer
	if front != "" {
		fmt.Fprintf(&b, "---\n%s---\n", front)
	}
	fmt.Fprintf(&b, "> Converted from %s to %s, %s layout, by %s.%s\n", from, p.DType.ConfigName(), p.LayoutName(), tool, below)
	if body != "" {
		b.WriteString("\n" + body)
	}
	return b.Bytes()
}

// withBaseModel sets base_model in YAML front matter and leaves every other line as it is. What does not parse is not touched.
func withBaseModel(front, repo string) string {
	if repo == "" {
		return front
	}
	line := "base_model: " + repo + "\n"
	file, err := parser.ParseBytes([]byte(front), parser.ParseComments)
	if err != nil {
		return front
	}
	path, err := yaml.PathString("$.base_model")
	if err != nil {
		return front
	}
	if _, err := path.FilterFile(file); err != nil { // not there yet
		return front + line
	}
	if err := path.ReplaceWithReader(file, strings.NewReader(repo)); err != nil {
		return front
	}
	return strings.TrimRight(file.String(), "\n") + "\n"
}

// note says what a person should know and no error stops: about the source, then about the output.
func (p *Plan) note() {
	c := p.Source.Config
	p.SourceNotes = append(p.SourceNotes, p.Source.Notes...)
	if !p.Family.Known() {
		p.SourceNotes = append(p.SourceNotes, fmt.Sprintf("model_type %q is not a family that metalcast knows: FP8 weights are dequantized in place under their own names; check that your runtime loads the result", c.ModelType()))
	} else if t := c.ModelType(); t != p.Family.ModelType {
		p.SourceNotes = append(p.SourceNotes, fmt.Sprintf("mlx-lm does not know model_type %q; for mlx-lm set it to %q in a copy of config.json (mlx-vlm and transformers need it as it is)", t, p.Family.ModelType))
	}
	p.Notes = append(p.Notes, p.SourceNotes...)
	if len(p.Source.LeftOut) > 0 {
		p.Notes = append(p.Notes, "not copied: "+strings.Join(p.Source.LeftOut, ", "))
	}
	if n := c.TextSetting("mtp_num_hidden_layers"); n.Int() > 0 && p.Family.Known() && !p.keepsMTP() {
		p.Notes = append(p.Notes, fmt.Sprintf("config.json still says mtp_num_hidden_layers %d; the output has no multi-token prediction head (--keep-mtp keeps the source's)", n.Int()))
	}
}

// LayoutName is the layout in words that fit models without experts too.
func (p *Plan) LayoutName() string {
	if p.Family.Experts == nil {
		return "unchanged"
	}
	return string(p.Layout)
}

// MLXProblem tells why mlx-lm does not load the output, or "" where it does.
func (p *Plan) MLXProblem() string {
	switch t := p.Source.Config.ModelType(); {
	case !p.Family.Known():
		return fmt.Sprintf("model_type %q is not a family that metalcast knows; it may", t)
	case t != p.Family.ModelType:
		return fmt.Sprintf("it knows model_type %q, not %q", p.Family.ModelType, t)
	case p.Family.Experts != nil && p.Layout != family.Stacked && !p.Form.MLX:
		return "it wants this family's experts stacked; convert without --layout"
	}
	return ""
}

func (p *Plan) keepsMTP() bool {
	for i := range p.Tensors {
		if p.Family.IsMTP(p.Tensors[i].Name) {
			return true
		}
	}
	return false
}
