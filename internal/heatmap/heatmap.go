// Package heatmap writes one HTML file with figures as a picture and as tables: nothing in it is loaded from elsewhere, it is well-formed as XML too, light or dark as the
// reader's system is, and every cell says what it stands for.
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

// Page is what the file shows.
type Page struct {
	Title  string
	Facts  [][2]string // names and what there is to say
	Map    Map
	Tables []Table
}

// Map is a grid of cells, each coloured by its value.
type Map struct {
	Caption string
	Across  string // what columns are: "layer"
	Columns []string
	Rows    []string
	Cells   []Cell
	Text    func(value float64) string // of the legend
}

// Cell is a place of the map. Places without a cell stay blank.
type Cell struct {
	Row, Column int
	Value       float64 // not negative, or infinite
	Title       string
}

// Table has a head; columns from Numbers on are numbers.
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

// clean makes names fit for XML, which has no place for control characters.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// drawing is a map with all places worked out, in pixels.
type drawing struct {
	Caption       string
	Width, Height int
	Labels        []label // of rows, right-aligned
	Ticks         []label // of columns, centred
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

// The picture's measures, in pixels. Letters are those of a monospaced font of 11.
const (
	pitch  = 18
	side   = 16
	letter = 7
	gap    = 3 // between two names of columns
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

// ticks are the columns whose names are written: the first and the last, and of those between each fifth, or each of a few, where names do not touch.
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

// steps is how many colours there are for finite values.
const steps = 9

// scale cuts the range in which most values are into steps of a round width; what lies beyond counts to the first or the last.
type scale struct {
	first, width float64
	steps        int
	least, most  float64
	infinite     bool // there are infinite values too
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
	if spread := q3 - q1; spread > 0 { // Tukey's whiskers: a few modules of other bits do not make all others one colour
		first, _ := slices.BinarySearch(values, q1-1.5*spread)
		last, _ := slices.BinarySearch(values, q3+1.5*spread)
		lo, hi = values[first], values[last-1]
	}
	unit := 1e-9
	if hi > 0 {
		unit = math.Pow(10, math.Floor(math.Log10(hi))-2) // what three digits can tell apart
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

// text is a step's in the legend: the first and the last say how far what lies beyond goes.
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
