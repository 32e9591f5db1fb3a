package checkpoint

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/fault"
)

// Quantization returns the quantization_config that applies: the outermost, or that of an inner
// model, the language model's first.
func (c *Config) Quantization() gjson.Result {
	// It is requested for each tensor of some formats.
	c.once.Do(func() { c.quantization = c.findQuantization() })
	return c.quantization
}

func (c *Config) findQuantization() gjson.Result {
	for _, path := range append([]string{"quantization_config", "text_config.quantization_config"}, c.QuantizationPaths()...) {
		if r := c.Get(path); says(path, r) {
			return r
		}
	}
	return gjson.Result{}
}

// says reports whether a quantization is described there; a compression_config is only removed.
func says(path string, r gjson.Result) bool {
	return r.IsObject() && len(r.Map()) > 0 && strings.HasSuffix(path, "quantization_config")
}

// deepest is the greatest nesting of configs in which quantizations are looked for;
// thinker_config.text_config is the second.
const deepest = 4

var innerConfig = regexp.MustCompile(`^[a-z0-9_]*config$`)

// QuantizationPaths returns where the config describes a quantization: quantization_config and the
// older compression_config, at top level and in the configs of inner models, such as text_config,
// llm_config and thinker_config.text_config.
func (c *Config) QuantizationPaths() (paths []string) {
	var look func(prefix string, in gjson.Result, depth int)
	look = func(prefix string, in gjson.Result, depth int) {
		in.ForEach(func(key, value gjson.Result) bool {
			switch name := key.String(); {
			case name == "quantization_config" || name == "compression_config":
				paths = append(paths, prefix+name)
			case depth < deepest && value.IsObject() && innerConfig.MatchString(name):
				look(prefix+name+".", value, depth+1)
			}
			return true
		})
	}
	look("", gjson.ParseBytes(c.Text), 0)
	return paths
}

// inCommon are the settings in which the quantizations that a config describes must agree.
var inCommon = []string{"quant_method", "fmt", "format", "weight_block_size", "config_groups", "quant_algo", "scale_fmt", "bits", "group_size", "transform_config"}

// oneQuantization refuses descriptions that contradict each other.
func (c *Config) oneQuantization() error {
	first := ""
	for _, path := range c.QuantizationPaths() {
		r := c.Get(path)
		switch {
		case !says(path, r):
			continue
		case first == "":
			first = path
			continue
		}
		for _, key := range inCommon {
			a, b := c.Get(first+"."+key), r.Get(key)
			if a.Exists() && b.Exists() && !sameJSON(a.Raw, b.Raw) {
				return fault.Corrupt(ConfigName, "%s is %s in %s and %s in %s", key, short(a.Raw), first, short(b.Raw), path).WithHint(
					"remove the one that is wrong, in a copy of the checkpoint's directory")
			}
		}
	}
	return nil
}

// sameJSON compares two values regardless of their layout.
func sameJSON(a, b string) bool {
	x, y := jsontext.Value(a), jsontext.Value(b)
	return x.Canonicalize() == nil && y.Canonicalize() == nil && bytes.Equal(x, y)
}

func short(raw string) string {
	const most = 60
	if len(raw) > most {
		return raw[:most] + "..."
	}
	return raw
}
