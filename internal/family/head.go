package family

import (
	"fmt"
	"github.com/metalcast/metalcast/internal/dtype"
	"strings"

	"github.com/metalcast/metalcast/internal/checkpoint"
)

// Head is how mlx-lm 0.32.2's model of a family treats the output head, as consumers/test_whole.py
// runs it.
type Head uint8

// The ways in which models treat their head.
const (
	headDrops   Head = iota // tied or not, as the config says; a redundant head is dropped
	headRefuses             // tied or not, as the config says; a redundant head is dropped
	headAlways              // there must be one, whatever the config says
	headUntied              // like headAlways, and the config must not say that it is tied
	headNever               // there must be none, whatever the config says
)

// Tied reports whether mlx-lm considers the head tied to the embeddings: it reads only text_config
// if a config has one, and uses the family's default if that does not say.
func (f *Family) Tied(c *checkpoint.Config) bool {
	switch {
	case f.Head == headAlways, f.Head == headUntied:
		return false
	case f.Head == headNever:
		return true
	case !f.Known():
		return c.TextSetting("tie_word_embeddings").Bool()
	}
	key := "tie_word_embeddings"
	if c.Get("text_config").IsObject() {
		key = "text_config." + key
	}
	if r := c.Get(key); r.Exists() {
		return r.Bool()
	}
	return f.TiedUnsaid
}

// SizeProblem returns where embeddings or head of a listed family have another shape than
// config.json says, "" if nowhere: runtimes build the model by the config and refuse the tensor.
func (f *Family) SizeProblem(v *checkpoint.Inventory) string {
	vocab, hidden := v.Config.TextSetting("vocab_size").Int(), v.Config.TextSetting("hidden_size").Int()
	if !f.Known() || vocab <= 0 || hidden <= 0 {
		return ""
	}
	for i := range v.Tensors {
		t := &v.Tensors[i]
		if (isEmbedding(t.Name) || isHead(t.Name)) && t.DType != dtype.U32 && len(t.Shape) == 2 && (t.Shape[0] != vocab || t.Shape[1] != hidden) && !f.IsMTP(t.Name, Layers(v.Config)) {
			return fmt.Sprintf("%s has shape %v, and config.json says vocab_size %d, hidden_size %d: mlx-lm will not load it", t.Name, t.Shape, vocab, hidden)
		}
	}
	return ""
}

// isHead reports whether a tensor is the output head.
func isHead(name string) bool {
	return name == "lm_head.weight" || strings.HasSuffix(name, ".lm_head.weight")
}

// redundantHead reports whether nobody uses the head, and mlx-lm rejects it: all readers of the
// config consider it tied.
func (f *Family) redundantHead(c *checkpoint.Config) bool {
	if f.Head != headRefuses && f.Head != headNever || !f.Tied(c) {
		return false
	}
	outer := c.Get("tie_word_embeddings")
	return f.Head == headRefuses && (!outer.Exists() || outer.Bool()) || outer.Bool()
}

// HeadProblem returns what is wrong with the head of a model that has these tensors, as mlx-lm sees
// it; "" if nothing is known to be. Without embeddings the question does not arise.
func (f *Family) HeadProblem(c *checkpoint.Config, names func(yield func(string) bool)) string {
	head, embeddings, bare := false, false, false
	for name := range names {
		head = head || isHead(name) || !f.Known() && otherHead(name)
		bare = bare || f.Known() && strings.HasPrefix(name, "layers.")
		embeddings = embeddings || isEmbedding(name)
	}
	const text, outer = "text_config.tie_word_embeddings", "tie_word_embeddings"
	said := outer
	if c.Get("text_config").IsObject() {
		said = text
	}
	r := c.Get(said)
	switch {
	case bare:
		return "a backbone alone, whose names begin with layers. and not with model.layers.: mlx-lm will not load it, embedding tools may"
	case !embeddings:
		return ""
	case !f.Known():
		if r = c.TextSetting(outer); head || !r.Exists() || r.Bool() || !generates(c) {
			return ""
		}
		return "tie_word_embeddings is false and there is no lm_head.weight: mlx-lm will not load it"
	case head && f.Tied(c) && f.Head == headNever:
		return "mlx-lm's " + f.Name() + " has no output head beside its embeddings: mlx-lm will not load it with lm_head.weight"
	case head && f.Tied(c) && f.Head == headRefuses:
		return said + " is true and there is an lm_head.weight all the same: mlx-lm will not load it"
	case f.Head == headUntied && r.Bool():
		return said + " is true, and mlx-lm's " + f.Name() + " has an output head of its own: mlx-lm will not load it, with lm_head.weight or without"
	case head || f.Tied(c):
		return ""
	case f.Head == headAlways, f.Head == headUntied:
		return "mlx-lm's " + f.Name() + " has an output head, tied or not, and there is no lm_head.weight: mlx-lm will not load it"
	case r.Exists():
		return said + " is false and there is no lm_head.weight: mlx-lm will not load it"
	case said == text && c.Get(outer).Bool():
		return "tie_word_embeddings is true outside text_config, where mlx-lm does not look, and there is no lm_head.weight: mlx-lm will not load it"
	}
	return said + " is not in config.json, which mlx-lm reads as false, and there is no lm_head.weight: mlx-lm will not load it"
}

// generates reports whether the config's class has an output head; backbones and classifiers have
// none.
func generates(c *checkpoint.Config) bool {
	class := c.Get("architectures.0").String()
	return strings.HasSuffix(class, "ForCausalLM") || strings.HasSuffix(class, "ForConditionalGeneration")
}

// otherHead recognises names of the head in models that are not listed.
func otherHead(name string) bool {
	return hasSuffix(name, []string{"head.weight", "head.linear.weight", "embed_out.weight", "output.weight", "output_layer.weight"})
}

// embeddings are the names of the first module in models.
var embeddings = []string{"embed_tokens.weight", "word_embeddings.weight", "embeddings.weight", "wte.weight", "tok_embeddings.weight", "embed_in.weight"}

func isEmbedding(name string) bool { return hasSuffix(name, embeddings) }
