package checkpoint

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/fault"
)

// Config is config.json, kept as text so that nothing of it is lost.
type Config struct{ Text []byte }

// ParseConfig checks that text is one JSON object, strictly.
func ParseConfig(text []byte) (*Config, error) {
	if bytes.HasPrefix(text, []byte("\xEF\xBB\xBF")) {
		return nil, fault.Corrupt("", "begins with a byte order mark").WithHint("save it as UTF-8 without one")
	}
	d := jsontext.NewDecoder(bytes.NewReader(text))
	v, err := d.ReadValue()
	if err != nil {
		return nil, &fault.Error{Kind: fault.ErrCorrupt, What: "not valid JSON", Err: err}
	}
	if v.Kind() != '{' {
		return nil, fault.Corrupt("", "not a JSON object")
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fault.Corrupt("", "text follows the JSON object at byte %d", d.InputOffset())
	}
	return &Config{text}, nil
}

// Get reads a value by its path, in gjson's syntax.
func (c *Config) Get(path string) gjson.Result { return gjson.GetBytes(c.Text, path) }

// ModelType is the top-level model_type.
func (c *Config) ModelType() string { return c.Get("model_type").String() }

// TextSetting is a setting of the language model: under text_config where there is one, at top level in flat configs.
func (c *Config) TextSetting(key string) gjson.Result {
	if r := c.Get("text_config." + key); r.Exists() {
		return r
	}
	return c.Get(key)
}

// Quantization is the quantization_config, at top level or under text_config.
func (c *Config) Quantization() gjson.Result {
	if r := c.Get("quantization_config"); r.IsObject() {
		return r
	}
	return c.Get("text_config.quantization_config")
}

// BlockSize is weight_block_size, in rows and columns; ok is false where the config does not give one.
func (c *Config) BlockSize() (rows, cols int64, ok bool, err error) {
	r := c.Quantization().Get("weight_block_size")
	if !r.Exists() || r.Type == gjson.Null {
		return 0, 0, false, nil
	}
	list := r.Array()
	if len(list) != 2 || list[0].Int() < 1 || list[1].Int() < 1 || list[0].Int() > 1<<30 || list[1].Int() > 1<<30 {
		return 0, 0, false, fault.Corrupt(ConfigName, "weight_block_size is %s, two positive numbers were expected", r.Raw)
	}
	return list[0].Int(), list[1].Int(), true, nil
}
