// Package heatmap writes a single HTML file that shows figures as a picture and as tables. The file
// loads nothing from elsewhere, is well-formed XML too, follows the reader's light or dark mode,
// and labels every cell.
package heatmap

import (
	_ "embed"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Page is the content of the file.
type Page struct {
	Title  string
	Facts  [][2]string // names and values
	Map    Map
	Tables []Table
}

// Map is a grid of cells, each coloured by its value.
type Map struct {
	Caption string
	Across  string // what columns stand for: "layer"
	Columns []string
	Rows    []string
	Cells   []Cell
	Text    func(value float64) string // text for the legend
}

// Cell is a cell of the map. Positions without a cell stay blank.
type Cell struct {
	Row, Column int
	Value       float64 // non-negative, possibly infinite
	Title       string
}

// Table has a head; columns from Numbers on contain numbers.
type Table struct {
	Caption string
	Head    []string
	Numbers int
	Rows    [][]string
}

//go:embed page.html
var text string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"clean": clean}).Parse(text))

// Write writes the file.
func (p *Page) Write(w io.Writer) error {
	return page.Execute(w, struct {
		*Page
		Map drawing
	}{p, p.Map.draw()})
}

// clean removes control characters, which XML does not allow.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// drawing is a map with all positions computed, in pixels.
type drawing struct {
	Caption       string
	Width, Height int
	Labels        []label // row labels, right-aligned
	Ticks         []label // column labels, centred
	Boxes         []box
	Legend        []swatch
	Across        label
}

type label struct {
	X, Y int
	Text string
}

type box struct {
	X, Y, Step int
	Title      string
}

type swatch struct {
	Step, X, Y int
	Text       string
}

// The picture's dimensions, in pixels, for a monospaced font of 11 pixels.
const (
	pitch  = 18
	side   = 16
	letter = 7
	gap    = 3 // between two column labels
	above  = 34
	margin = 8
)

func (m *Map) draw() drawing {
	longest := 0
	for _, r := range m.Rows {
		longest = max(longest, len([]rune(r)))
	}
	left := margin + longest*letter + margin
	d := drawing{Caption: m.Caption, Across: label{left, 12, m.Across}}
	for i, r := range m.Rows {
		d.Labels = append(d.Labels, label{left - margin, above + i*pitch + 12, r})
	}
	for _, i := range m.ticks() {
		d.Ticks = append(d.Ticks, label{left + i*pitch + side/2, above - 6, m.Columns[i]})
	}
	s := m.scale()
	for _, c := range m.Cells {
		d.Boxes = append(d.Boxes, box{left + c.Column*pitch, above + c.Row*pitch, s.step(c.Value), c.Title})
	}
	below := above + len(m.Rows)*pitch + 12
	x := left
	for i := range s.steps {
		d.Legend = append(d.Legend, swatch{i, x, below + i*pitch, s.text(i, m.Text)})
	}
	if s.infinite {
		d.Legend = append(d.Legend, swatch{steps, x, below + s.steps*pitch, "infinite"})
	}
	d.Height = below + len(d.Legend)*pitch + margin
	d.Width = max(left+len(m.Columns)*pitch, left+30*letter) + margin
	return d
}

// ticks returns the columns whose names are shown: the first, the last, and every fifth in between,
// or every one if there are few, as long as names do not touch.
func (m *Map) ticks() (list []int) {
	last := len(m.Columns) - 1
	apart := func(i, k int) bool {
		half := letter * (utf8.RuneCountInString(m.Columns[i]) + utf8.RuneCountInString(m.Columns[k])) / 2
		return (k-i)*pitch >= half+gap
	}
	for i := range m.Columns {
		wanted := i == 0 || i%5 == 0 || len(m.Columns) <= 12
		if i == last || wanted && (len(list) == 0 || apart(list[len(list)-1], i)) && apart(i, last) {
			list = append(list, i)
		}
	}
	return list
}

// steps is the number of colours for finite values.
const steps = 9

// scale divides the range of most values into steps of a round width; values outside it belong to
// the first or the last step.
type scale struct {
	first, width float64
	steps        int
	least, most  float64
	infinite     bool // some values are infinite
}

func (m *Map) scale() (s scale) {
	var values []float64
	for _, c := range m.Cells {
		if math.IsInf(c.Value, 0) {
			s.infinite = true
		} else {
			values = append(values, c.Value)
		}
	}
	if len(values) == 0 {
		return s
	}
	slices.Sort(values)
	s.least, s.most = values[0], values[len(values)-1]
	lo, hi := s.least, s.most
	q1, q3 := values[len(values)/4], values[len(values)*3/4]
	// Tukey's whiskers: a few modules with other bits do not give all others the same colour
	if spread := q3 - q1; spread > 0 {
		first, _ := slices.BinarySearch(values, q1-1.5*spread)
		last, _ := slices.BinarySearch(values, q3+1.5*spread)
		lo, hi = values[first], values[last-1]
	}
	unit := 1e-9
	if hi > 0 {
		// the smallest difference that three digits can show
		unit = math.Pow(10, math.Floor(math.Log10(hi))-2)
	}
	for s.steps = steps + 1; s.steps > steps; unit *= 10 {
		for _, n := range []float64{1, 2, 5} {
			s.width = n * unit
			s.first = math.Floor(lo/s.width) * s.width
			if s.steps = int((hi-s.first)/s.width) + 1; s.steps <= steps {
				break
			}
		}
	}
	return s
}

func (s *scale) step(v float64) int {
	if math.IsInf(v, 0) {
		return steps
	}
	return max(0, min(s.steps-1, int((v-s.first)/s.width)))
}

// text returns a step's text in the legend; the first and the last include how far values beyond
// the scale extend.
func (s *scale) text(i int, text func(float64) string) string {
	from, to := s.first+float64(i)*s.width, s.first+float64(i+1)*s.width
	if i == 0 {
		from = min(from, s.least)
	}
	if i == s.steps-1 {
		to = max(to, s.most)
	}
	return text(from) + " – " + text(to)
}
