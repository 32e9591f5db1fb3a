package checkpoint

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"

	"github.com/metalcast/metalcast/internal/fault"
)

// Config is config.json, kept as text so that nothing of it is lost, except values that a later one
// with the same key replaces. The text may have NaN and Infinity, which Standard replaces for a
// strict parser.
type Config struct {
	Text  []byte
	Notes []string // of keys that occur more than once with different values

	once         sync.Once
	quantization gjson.Result // once requested
}

// ParseConfig checks that text is one JSON object, as Python reads it.
func ParseConfig(text []byte) (*Config, error) {
	once, notes, err := parsePython(text)
	if err != nil {
		return nil, err
	}
	return &Config{Text: once, Notes: notes}, nil
}

// notJSON returns a parser's error. If it gives up at a depth it names the place by all the keys
// that lead there.
func notJSON(what string, err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	var wrong *jsontext.SyntacticError
	if errors.As(err, &wrong) && wrong.Err != nil && wrong.Err.Error() == "exceeded max depth" {
		return fault.Corrupt("", "%s: too deep at byte %d", what, wrong.ByteOffset)
	}
	return &fault.Error{Kind: fault.ErrCorrupt, What: what, Err: err}
}

// Get reads a value by its path, in gjson's syntax.
func (c *Config) Get(path string) gjson.Result { return gjson.GetBytes(c.Text, path) }

// ModelType is the top-level model_type.
func (c *Config) ModelType() string { return c.Get("model_type").String() }

// TextSetting returns a setting of the language model: from text_config if there is one, from the
// top level of flat configs.
func (c *Config) TextSetting(key string) gjson.Result {
	if r := c.Get("text_config." + key); r.Exists() {
		return r
	}
	return c.Get(key)
}

// BlockSizes returns the scale blocks that the quantization names, in rows and columns:
// weight_block_size (quant_method fp8) and each config_groups.*.weights.block_structure
// (compressed-tensors). It is empty if there are none.
func (c *Config) BlockSizes() (list [][2]int64, err error) {
	if err := c.oneQuantization(); err != nil {
		return nil, err
	}
	q := c.Quantization()
	add := func(key string, r gjson.Result) {
		if !r.Exists() || r.Type == gjson.Null || err != nil {
			return
		}
		size, ok := blockSize(r)
		if !ok {
			err = fault.Corrupt(ConfigName, "%s is %s, two whole numbers from 1 to 2^31-1 were expected", key, r.Raw)
		} else if !slices.Contains(list, size) {
			list = append(list, size)
		}
	}
	add("weight_block_size", q.Get("weight_block_size"))
	q.Get("config_groups").ForEach(func(_, group gjson.Result) bool {
		add("block_structure", group.Get("weights.block_structure"))
		return true
	})
	return list, err
}

// blockSize reads [128, 128], and "128x128" as older compressed-tensors write it.
func blockSize(r gjson.Result) (size [2]int64, ok bool) {
	var parts []string
	if r.Type == gjson.String {
		parts = strings.Split(r.String(), "x")
	}
	for _, x := range r.Array() {
		if r.IsArray() {
			parts = append(parts, x.Raw)
		}
	}
	if len(parts) != 2 {
		return size, false
	}
	for i, p := range parts {
		n, err := strconv.ParseInt(p, 10, 31)
		if err != nil || n < 1 {
			return size, false
		}
		size[i] = n
	}
	return size, true
}
