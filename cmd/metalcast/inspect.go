package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

func newInspect(u *ui) *cobra.Command {
	var o metalcast.InspectOptions
	c := &cobra.Command{
		Use:   "inspect SRC",
		Short: "describe a checkpoint, from headers and scales",
		Long: "Inspect tells a checkpoint's family, how its weights are scaled, how its experts lie, what is odd about it, and what the runtimes say\n" +
			"to it as it is. It reads headers and scales; --scan reads every weight.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Progress = u.watcher()
			r, err := metalcast.Inspect(cmd.Context(), args[0], o)
			u.endProgress()
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(r)
			}
			showInspection(u, r)
			return nil
		},
	}
	c.Flags().BoolVar(&o.Scan, "scan", false, "also read every weight, and count NaN codes, non-finite scales and weights that no model has")
	c.Flags().StringVar(&o.Revision, "revision", "", "branch, tag or commit, if SRC is a model id")
	c.Flags().BoolVar(&u.json, "json", false, "print one JSON document")
	u.registerProgress(c)
	return c
}

func showInspection(u *ui, r *metalcast.Inspection) {
	w := u.table()
	w.fact("source", "%s", r.Source)
	if r.Repo != "" {
		w.fact("hub", "%s at %s", r.Repo, r.Revision)
	}
	w.fact("family", "%s (model_type %s)", r.Family, r.ModelType)
	if r.Form != "" {
		w.fact("form", "%s", r.Form)
	}
	w.fact("size", "%s in %s, %s", count(r.Tensors, "tensor"), count(r.Shards, "shard"), bytesText(r.Bytes))
	for i, d := range r.DTypes {
		w.fact(first(i, "types"), "%s: %s, %s", d.DType, count(d.Tensors, "tensor"), bytesText(d.Bytes))
	}
	for i, s := range r.Scales {
		w.fact(first(i, "scales"), "%s: %s", s.Dialect, count(s.Weights, "weight"))
	}
	if r.Layout != "" {
		w.fact("layout", "%s", r.Layout)
	}
	for i, e := range r.Experts {
		w.fact(first(i, "experts"), "%d in each of %s", e.Experts, count(e.Layers, "layer"))
	}
	if r.MTP > 0 {
		w.fact("mtp", "%s", count(r.MTP, "tensor"))
	}
	if r.Vision > 0 {
		w.fact("vision", "%s", count(r.Vision, "tensor"))
	}
	for _, x := range r.Runtimes {
		w.fact(x.Runtime, "%s", x.Does)
	}
	if r.Scanned && len(r.Findings) == 0 {
		w.fact("scan", "no NaN code, every scale finite, no weight beyond what models hold")
	}
	for i, f := range r.Findings {
		if i == 10 {
			w.fact("", "and %s more", count(len(r.Findings)-i, "tensor"))
			break
		}
		large := ""
		if f.Large > 0 {
			large = fmt.Sprintf(", %d weights beyond what models hold, up to %.4g", f.Large, f.Largest)
		}
		w.fact(first(i, "scan"), "%s: %d NaN codes, %d non-finite scales%s", f.Tensor, f.NaNCodes, f.BadScales, large)
	}
	switch {
	case r.Problem != "":
		w.fact("convert", "%s", r.Problem)
	case r.Usable:
		w.fact("convert", "not needed; %s", r.Why)
	case slices.ContainsFunc(r.Findings, func(f metalcast.Finding) bool { return f.NaNCodes+f.BadScales > 0 }):
		w.fact("convert", "refused, but with --nan-policy keep")
	case slices.ContainsFunc(r.Findings, func(f metalcast.Finding) bool { return f.Overflows > 0 }):
		w.fact("convert", "refused, but with --allow-overflow")
	default:
		w.fact("convert", "ready")
	}
	w.flush()
	if r.Hint != "" {
		u.messagef("hint: %s", r.Hint)
	}
	for _, n := range r.Notes {
		u.warningf("%s", n)
	}
}

func first(i int, name string) string {
	if i == 0 {
		return name
	}
	return ""
}
