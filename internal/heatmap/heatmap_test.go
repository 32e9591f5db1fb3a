package heatmap

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func percent(v float64) string { return fmt.Sprintf("%.3g %%", 100*v) }

// small is a page with names that a hostile checkpoint may have.
func small() *Page {
	return &Page{
		Title: `</title><script>alert("1")</script>`,
		Facts: [][2]string{{"source", "a&b \x1b[31m\u202e"}},
		Map: Map{
			Caption: "error & more", Across: "layer", Columns: []string{"0", "1"}, Rows: []string{`q"<proj>`, "down_proj"}, Text: percent,
			Cells: []Cell{{0, 0, 0.05, `</svg><script>`}, {0, 1, 0.06, "b"}, {1, 1, math.Inf(1), "c"}},
		},
		Tables: []Table{{Caption: "all", Head: []string{"name", "error"}, Numbers: 1, Rows: [][]string{{"<b>", "1 %"}, {"x", "2 %"}}}},
	}
}

// elements parses the written file strictly, as XML.
func elements(t *testing.T, text []byte) (names map[string]int, texts []string) {
	d := xml.NewDecoder(bytes.NewReader(text))
	names = map[string]int{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		require.NoError(t, err)
		switch x := token.(type) {
		case xml.StartElement:
			names[x.Name.Local]++
			for _, a := range x.Attr {
				assert.NotContains(t, []string{"src", "href", "onload", "onclick"}, a.Name.Local)
			}
		case xml.CharData:
			if s := strings.TrimSpace(string(x)); s != "" {
				texts = append(texts, s)
			}
		}
	}
}

func TestPageIsWellFormedAndWhole(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, small().Write(&b))
	names, texts := elements(t, b.Bytes())
	assert.Equal(t, map[string]int{
		"html": 1, "head": 1, "meta": 3, "title": 1 + 3, "style": 1, "body": 1, "h1": 1, "dl": 1, "dt": 1, "dd": 1, "figure": 1, "figcaption": 1, "svg": 1, "desc": 1,
		"text": 1 + 2 + 2 + 6, "rect": 3 + 6, "g": 6, "div": 1, "table": 1, "caption": 1, "thead": 1, "tbody": 1, "tr": 3, "th": 4, "td": 2,
	}, names, "no element comes from a name")
	for _, want := range []string{`</title><script>alert("1")</script>`, `</svg><script>`, `q"<proj>`, "a&b �[31m�", "infinite", "<b>", "2 %"} {
		assert.Contains(t, texts, want)
	}
	for _, link := range regexp.MustCompile(`https?://[^"]*`).FindAllString(b.String(), -1) {
		assert.Contains(t, []string{"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}, link, "nothing is loaded from elsewhere")
	}
	assert.Contains(t, b.String(), "prefers-color-scheme: dark")
	assert.NotContains(t, b.String(), "ZgotmplZ")
}

func TestCellsAreWhereTheyBelong(t *testing.T) {
	m := small().Map
	d := m.draw()
	require.Len(t, d.Boxes, 3)
	assert.Equal(t, d.Boxes[0].Y, d.Boxes[1].Y)
	assert.Equal(t, d.Boxes[1].X, d.Boxes[2].X)
	assert.Equal(t, pitch, d.Boxes[1].X-d.Boxes[0].X)
	assert.Equal(t, pitch, d.Boxes[2].Y-d.Boxes[1].Y)
	assert.Less(t, d.Boxes[0].Step, d.Boxes[1].Step)
	assert.Equal(t, steps, d.Boxes[2].Step)
	for _, s := range d.Legend {
		assert.Less(t, s.Y, d.Height)
	}
}

// Whatever the columns, the first and the last have their names above their cells, and no two names
// touch.
func TestTicks(t *testing.T) {
	for layers := range 200 {
		for _, rest := range [][]string{nil, {"–"}} {
			m := Map{Rows: []string{"a"}, Text: percent}
			for i := range layers {
				m.Columns = append(m.Columns, strconv.Itoa(i))
			}
			m.Columns = append(m.Columns, rest...)
			d := m.draw()
			if len(m.Columns) == 0 {
				assert.Empty(t, d.Ticks)
				continue
			}
			left := d.Across.X + side/2
			place := map[string]int{}
			for i, c := range m.Columns {
				place[c] = left + i*pitch
			}
			for i, x := range d.Ticks {
				assert.Equal(t, place[x.Text], x.X, "%d layers: %s", layers, x.Text)
				if i > 0 {
					before := d.Ticks[i-1]
					// the width of letters of 11 pixels
					half := 6.7 * float64(len([]rune(before.Text))+len([]rune(x.Text))) / 2
					assert.Greater(t, float64(x.X-before.X), half+2, "%d layers: %s beside %s", layers, before.Text, x.Text)
				}
			}
			assert.Equal(t, m.Columns[0], d.Ticks[0].Text)
			assert.Equal(t, m.Columns[len(m.Columns)-1], d.Ticks[len(d.Ticks)-1].Text)
			if layers <= 9 {
				assert.Len(t, d.Ticks, len(m.Columns), "%d layers", layers)
			}
			assert.Greater(t, len(d.Ticks), len(m.Columns)/6, "%d layers", layers)
		}
	}
}

func TestScale(t *testing.T) {
	spread := []float64{}
	for i := range 40 {
		spread = append(spread, 0.08+0.0005*float64(i))
	}
	for _, test := range []struct {
		name   string
		values []float64
		legend []string
	}{
		{"equal", []float64{0.05, 0.05}, []string{"5 % – 5.01 %"}},
		{"zero", []float64{0, 0}, []string{"0 % – 1e-07 %"}},
		{"none", nil, nil},
		{"infinite", []float64{math.Inf(1)}, nil},
		{"even", []float64{0.01, 0.03, 0.05, 0.09}, []string{"1 % – 2 %", "2 % – 3 %", "3 % – 4 %", "4 % – 5 %", "5 % – 6 %", "6 % – 7 %", "7 % – 8 %", "8 % – 9 %", "9 % – 10 %"}},
		{"outliers", append([]float64{0.001, 0.5}, spread...), nil},
	} {
		m := Map{Text: percent}
		for _, v := range test.values {
			m.Cells = append(m.Cells, Cell{Value: v})
		}
		s := m.scale()
		var legend []string
		for i := range s.steps {
			legend = append(legend, s.text(i, percent))
		}
		assert.LessOrEqual(t, len(legend), steps)
		for _, v := range test.values { // each value is in the range of its step
			if i := s.step(v); i < s.steps {
				assert.True(t, v >= s.first+float64(i)*s.width*(1-1e-9) || i == 0, "%s: %v in %s", test.name, v, legend[i])
				assert.True(t, v <= s.first+float64(i+1)*s.width*(1+1e-9) || i == s.steps-1, "%s: %v in %s", test.name, v, legend[i])
			}
		}
		if test.name == "outliers" { // which the legend shows
			assert.True(t, strings.HasPrefix(legend[0], "0.1 % – 8."), legend[0])
			assert.True(t, strings.HasSuffix(legend[len(legend)-1], " – 50 %"), legend[len(legend)-1])
			assert.Greater(t, s.step(0.0995)-s.step(0.08), 2, "the many are told apart")
			continue
		}
		assert.Equal(t, test.legend, legend, test.name)
	}
}
