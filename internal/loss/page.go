package loss

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/metalcast/metalcast/internal/heatmap"
)

// WriteHTML writes the report as one self-contained HTML file: a map of the error, with layers
// across and kinds of modules down, and all figures as tables.
func (r *Loss) WriteHTML(w io.Writer) error {
	number := func(n int64) string { return humanize.Comma(n) }
	p := heatmap.Page{
		Title: "Quantization error of " + filepath.Base(r.Destination),
		Facts: [][2]string{
			{"source", r.Source}, {"checkpoint", r.Destination}, {"family", r.Family},
			{"quantized", fmt.Sprintf("%s tensors, %s weights", number(int64(len(r.Tensors))), number(r.Total.Weights))},
			{"relative RMSE", r.Total.RelativeRMSE.String()}, {"worst group", r.Total.MaxGroupError.String()}, {"groups that became all zero", number(r.Total.ZeroedGroups)},
			{"measured by", r.tool + ": the root of the sum of squared differences over that of the source's squared weights"},
		},
		Map: r.heatmap(),
	}
	modules := heatmap.Table{
		Caption: "By kind of module", Numbers: 2,
		Head: []string{"module", "format", "tensors", "weights", "relative RMSE", "worst tensor", "worst group", "zeroed groups"},
	}
	for _, m := range r.Modules {
		modules.Rows = append(modules.Rows, []string{
			m.Module, strings.Join(m.Formats, ", "), number(int64(m.Tensors)), number(m.Weights), m.RelativeRMSE.String(), m.WorstRMSE.String(), m.MaxGroupError.String(), number(m.ZeroedGroups),
		})
	}
	tensors := heatmap.Table{
		Caption: "By tensor, the worst first", Numbers: 3,
		Head: []string{"tensor", "format", "its worst group", "error there", "relative RMSE", "weights", "zeroed groups"},
	}
	for _, t := range r.Tensors {
		where := ""
		if len(t.Worst) > 0 {
			where = t.Worst[0].Where
		}
		tensors.Rows = append(tensors.Rows, []string{t.Name, t.Format, where, t.MaxGroupError.String(), t.RelativeRMSE.String(), number(t.Weights), number(t.ZeroedGroups)})
	}
	p.Tables = []heatmap.Table{modules, tensors}
	return p.Write(w)
}

// heatmap has modules in the order of the report, worst on top, and a column for those in no layer.
func (r *Loss) heatmap() heatmap.Map {
	m := heatmap.Map{
		Caption: "Relative RMSE by layer and kind of module; –: in no layer; blank: not quantized, or not there", Across: "layer",
		Text: func(v float64) string { return Ratio(v).String() },
	}
	var layers []int
	for _, t := range r.Tensors {
		layers = append(layers, t.Layer)
	}
	slices.Sort(layers)
	if layers = slices.Compact(layers); len(layers) > 0 && layers[0] < 0 { // last
		layers = append(layers[1:], layers[0])
	}
	for _, l := range layers {
		name := strconv.Itoa(l)
		if l < 0 {
			name = "–"
		}
		m.Columns = append(m.Columns, name)
	}
	rows := map[string]int{}
	for i, k := range r.Modules {
		rows[k.Module] = i
		m.Rows = append(m.Rows, k.Module)
	}
	for i := range r.Tensors {
		t := &r.Tensors[len(r.Tensors)-1-i] // of two in one cell the worse is drawn last
		m.Cells = append(m.Cells, heatmap.Cell{
			Row: rows[t.Module], Column: slices.Index(layers, t.Layer), Value: float64(t.RelativeRMSE),
			Title: fmt.Sprintf("%s: %s, relative RMSE %s, worst group %s, %s of %s groups became all zero", t.Name, t.Format, t.RelativeRMSE, t.MaxGroupError,
				humanize.Comma(t.ZeroedGroups), humanize.Comma(t.Groups)),
		})
	}
	return m
}
