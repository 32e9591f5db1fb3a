package pass

import (
	"context"
	"fmt"
	"math"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/plan"
)

// SurveyScales is CheckScales for a caller without an open source.
func SurveyScales(ctx context.Context, p *plan.Plan) error {
	source, err := p.Source.OpenSource()
	if err != nil {
		return err
	}
	defer source.Close()
	return CheckScales(ctx, p, source)
}

// CheckScales refuses a source whose scales give weights that no model holds, before anything is
// written: they are reciprocals, or are read as such and are none. Weights whose scales are all
// zero become notes of the plan.
func CheckScales(ctx context.Context, p *plan.Plan, source *checkpoint.Source) error {
	found, zero, err := engine.Survey(ctx, p, source, p.Invert)
	if err != nil {
		return err
	}
	noteZeros(p, zero)
	if len(found) == 0 {
		return nil
	}
	first := &found[0]
	q := &p.Pieces[first.Piece]
	if math.IsInf(first.Scale, 0) {
		return fault.Corrupt(q.Scale.String(), "holds a scale that has no reciprocal, for the weight's row %d, column %d", first.Row, first.Col)
	}
	other, _, err := engine.Survey(ctx, p, source, !p.Invert)
	if err != nil {
		return err
	}
	const hintOfBoth, hintOfTrust = "--scales invert divides by them; --scales trust converts as the file says", "--scales trust converts as the file says"
	what := fmt.Sprintf("code %g times scale %.4g is %.4g, at row %d, column %d", first.Code, first.Scale, first.Weight(), first.Row, first.Col)
	if p.Invert {
		what = fmt.Sprintf("code %g times %.4g, the reciprocal of its scale, is %.4g, at row %d, column %d", first.Code, first.Scale, first.Weight(), first.Row, first.Col)
	}
	what += fmt.Sprintf("; no model has weights beyond %d, and %d of %s here have some", engine.MostWeight, sourcesOf(p, piecesOf(found)), fault.Plural(scaledSources(p), "FP8 weight", "FP8 weights"))
	switch {
	case p.Invert && len(other) == 0:
		return fault.Corrupt(q.Source.String(), "%s: %q holds no reciprocals", what, q.Scale.Name).WithHint("leave --scales out")
	case p.Invert:
		return fault.Corrupt(q.Source.String(), "%s: %q holds no reciprocals, as others do", what, q.Scale.Name).WithHint(hintOfTrust)
	case len(other) == 0:
		return fault.Corrupt(q.Source.String(), "%s: %q seems to hold reciprocals of scales", what, q.Scale.Name).WithHint(hintOfBoth)
	}
	return fault.Corrupt(q.Source.String(), "%s: %q seems to hold reciprocals of scales, and %q does not", what, q.Scale.Name, p.Pieces[other[0].Piece].Scale.Name).WithHint(hintOfTrust)
}

// noteZeros names the weights of which every scale is zero, as in a file that was given its size
// but not its data.
func noteZeros(p *plan.Plan, zero []int32) {
	if len(zero) == 0 {
		return
	}
	n := sourcesOf(p, zero)
	note := fmt.Sprintf("every scale of %s is 0, so these weights are 0; the first is %s", fault.Plural(n, "FP8 weight", "FP8 weights"), p.Pieces[zero[0]].Source.Name)
	if n == scaledSources(p) {
		note = "every scale of the checkpoint is 0, so every FP8 weight is 0: a download that was cut short may leave such files"
	}
	p.SourceNotes = append(p.SourceNotes, note)
	p.Notes = append(p.Notes, note)
}

// piecesOf lists the pieces of suspects.
func piecesOf(list []engine.Suspect) []int32 {
	pieces := make([]int32, len(list))
	for i := range list {
		pieces[i] = list[i].Piece
	}
	return pieces
}

// sourcesOf counts the source tensors of pieces, which come in the source's order.
func sourcesOf(p *plan.Plan, pieces []int32) (n int) {
	var last *checkpoint.Tensor
	for _, i := range pieces {
		if t := p.Pieces[i].Source; t != last {
			n++
			last = t
		}
	}
	return n
}

// scaledSources counts the source tensors that have scales.
func scaledSources(p *plan.Plan) (n int) {
	var last *checkpoint.Tensor
	for i := range p.Pieces {
		if q := &p.Pieces[i]; q.Params.Scaled() && q.Source != last {
			n++
			last = q.Source
		}
	}
	return n
}
