//go:build unix

package checkpoint_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/needtest"
)

// What Python's json.loads gives for each was tried with Python 3.11.
func TestConfigReadsWhatPythonReads(t *testing.T) {
	const whole, differs = "", "; the last one counts"
	for text, want := range map[string]struct {
		once string // the text without what is replaced; "" for all of it
		note string
	}{
		`{"a": NaN, "b": [Infinity,-Infinity , {"c":NaN}]}`: {whole, ""},
		"{\"a\":\n-Infinity\t}":                             {whole, ""},
		`{"a":"NaN, Infinity: \"[-Infinity","b":1}`:         {whole, ""},
		`{"Infinity":1,"NaN":Infinity}`:                     {whole, ""},
		`{"a":"\ud800","\udc00":"\uDC00\ud800"}`:            {whole, ""},
		// Two keys, though neither is Unicode.
		`{"\ud800":1,"\ud801":2}`:                                  {whole, ""},
		`{"a":1e999,"b":-0,"c":` + strings.Repeat("9", 4300) + `}`: {whole, ""},
		`{"a":1,"a":1}`:                                  {`{"a":1}`, ""},
		`{"a":1,"b":2,"a" : 3}`:                          {`{"b":2,"a" : 3}`, `has "a" more than once, as 1 and as 3` + differs},
		`{"a":1,"\u0061":2}`:                             {`{"\u0061":2}`, `has "a" more than once, as 1 and as 2` + differs},
		`{"t":{"n":4,"x":0,"n":8}}`:                      {`{"t":{"x":0,"n":8}}`, `has "t.n" more than once, as 4 and as 8` + differs},
		`{"l":[0,{"n":NaN,"n":8}]}`:                      {`{"l":[0,{"n":8}]}`, `has "l.1.n" more than once, as NaN and as 8` + differs},
		`{"t":{"n":1,"n":2},"t":{"n":3,"n":3}}`:          {`{"t":{"n":3}}`, `has "t.n" more than once, as 1 and as 2` + differs},
		`{"a":1,"a":2,"a":3}`:                            {`{"a":3}`, `has "a" more than once, as 1 and as 3` + differs},
		`{"a":1,"a":"` + strings.Repeat("x", 999) + `"}`: {`{"a":"` + strings.Repeat("x", 999) + `"}`, `has "a" more than once` + differs},
		`{"a":{"a":1,"a":2},"a":3}`:                      {`{"a":3}`, `has "a.a" more than once, as 1 and as 2` + differs},
	} {
		t.Run(fmt.Sprintf("%.60s", text), func(t *testing.T) {
			c, err := checkpoint.ParseConfig([]byte(text))
			require.NoError(t, err)
			if want.once == "" {
				want.once = text
			}
			assert.Equal(t, want.once, string(c.Text))
			if want.note == "" {
				assert.Empty(t, c.Notes)
			} else {
				assert.Contains(t, c.Notes, want.note)
			}
			standard, restore := checkpoint.Standard(c.Text)
			assert.Equal(t, want.once, string(restore(standard)))
		})
	}
	for _, text := range []string{
		`{"a":nan}`, `{"a":Inf}`, `{"a":+Infinity}`, `{"a":-NaN}`, `{"a":--Infinity}`, `{"a":NaNx}`, `{"a":Infinity1}`, `{"a":1NaN}`, `{NaN:1}`, `{"a":1,Infinity:2}`, `{"a":infinity}`, `NaN`, `[NaN]`,
		`{"a":01}`, `{"a":.5}`, `{"a":1.}`, `{"a":1,}`, `{"a":[1,]}`, `{'a':1}`, `{"a":"\x41"}`, "{\"a\":\"\t\"}", "{\"a\":\"\x00\"}", "{\"a\":\"\xED\xA0\x80\"}", "\f{}", `{} x`, "{}\x00", `{"a":TRUE}`, `{"a":1} NaN`,
		`{"a":` + strings.Repeat("9", 4301) + `}`,
	} {
		_, err := checkpoint.ParseConfig([]byte(text))
		assert.ErrorIs(t, err, fault.ErrCorrupt, "%.60s", text)
	}
}

// Hostile texts make neither many notes nor much work: each level and each pair of members is
// looked at once.
func TestConfigWithManyRepeats(t *testing.T) {
	needtest.Alone(t)
	deep := strings.Repeat(`{"a":`, 9000) + `"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat(`,"a":1}`, 9000)
	c, err := checkpoint.ParseConfig([]byte(deep))
	require.NoError(t, err)
	assert.Equal(t, `{"a":1}`, string(c.Text))
	require.Len(t, c.Notes, 11)
	assert.Equal(t, "has 8990 keys more of which the values differ; the last one counts", c.Notes[10])
	for _, note := range c.Notes {
		assert.Less(t, len(note), 1000)
	}
}

func TestOpenNotesRepeatedSettings(t *testing.T) {
	c := Moe(2)
	c.Files["config.json"] = strings.Replace(c.Files["config.json"], `"num_experts": 2`, `"num_experts": 7, "num_experts": 2`, 1)
	c.Files["generation_config.json"] = `{"top_k":1,"top_k":1,"temperature":0.5,"temperature":Infinity}`
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	assert.EqualValues(t, 2, v.Config.TextSetting("num_experts").Int())
	assert.Equal(t, []string{
		`config.json has "text_config.num_experts" more than once, as 7 and as 2; the last one counts`,
		`generation_config.json has "temperature" more than once, as 0.5 and as Infinity; the last one counts`,
	}, v.Notes)
}
