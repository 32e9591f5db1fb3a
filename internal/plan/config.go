package plan

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/sjson"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
)

// dtypeKeys are where a config may give its weights' type.
var dtypeKeys = []string{"dtype", "torch_dtype", "text_config.dtype", "text_config.torch_dtype"}

// convertedConfig returns the source's config.json without its quantization and with the new type;
// modelType, unless it is empty, replaces the model type. Everything else stays, in its order.
func convertedConfig(c *checkpoint.Config, to dtype.DType, modelType string) ([]byte, error) {
	text, restore := checkpoint.Standard(c.Text)
	text = bytes.Clone(text)
	var err error
	if modelType != "" {
		if text, err = sjson.SetBytes(text, "model_type", modelType); err != nil {
			return nil, err
		}
	}
	// The output has no quantization: mlx-lm refuses some, and transformers builds FP8 modules.
	for _, path := range c.QuantizationPaths() {
		if text, err = sjson.DeleteBytes(text, path); err != nil {
			return nil, err
		}
	}
	said := false
	for _, key := range dtypeKeys {
		if c.Get(key).Exists() {
			said = true
			if text, err = sjson.SetBytes(text, key, to.ConfigName()); err != nil {
				return nil, err
			}
		}
	}
	if !said {
		if text, err = sjson.SetBytes(text, "dtype", to.ConfigName()); err != nil {
			return nil, err
		}
	}
	return indentAs(restore(text), c.Text)
}

// maxConfig bounds the size of a config, in bytes.
const maxConfig = 64 << 20

// indents refuses text that would become too large through deep nesting or a long indentation.
func indents(text []byte, indent string) error {
	size, depth := int64(len(text)), int64(0)
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
			continue
		case c == '"':
			quoted = !quoted
			continue
		case quoted || !strings.ContainsRune("{[,]}", rune(c)):
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if size += 1 + depth*int64(len(indent)); size > maxConfig {
			return fault.Unsupported("", "its %d bytes would become more than %d when they are indented", len(text), maxConfig)
		}
	}
	return nil
}

// indentAs formats text like model: on one line, or with its indentation; and ends it as model
// ends.
func indentAs(text, model []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	first, rest, lines := strings.Cut(strings.TrimSpace(string(model)), "\n")
	if lines && strings.TrimSpace(first) == "{" {
		indent := rest[:len(rest)-len(strings.TrimLeft(rest, " \t"))]
		err := indents(text, indent)
		if err != nil {
			return nil, err
		}
		if text, err = indented(text, indent); err != nil {
			return nil, err
		}
	}
	if bytes.HasSuffix(model, []byte("\n")) {
		text = append(text, '\n')
	}
	return text, nil
}

// indented formats text on several lines. Strings and numbers keep their spelling, Python's too.
func indented(text []byte, indent string) ([]byte, error) {
	standard, restore := checkpoint.Standard(text)
	v := jsontext.Value(bytes.Clone(standard))
	err := v.Indent(jsontext.WithIndent(indent))
	return restore(v), err
}
