package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
)

func newVerify(u *ui) *cobra.Command {
	var (
		o      metalcast.VerifyOptions
		c      metalcast.Options
		q      quantFlags
		sample string
		e      errorFlags
	)
	cmd := &cobra.Command{
		Use:   "verify SRC DST",
		Short: "compare a converted checkpoint with its source",
		Long: `verify reads the converted checkpoint DST back, computes every tensor again from SRC and compares them byte for
byte, on the CPU where a GPU may have made them; it compares all other files too, and prints each file's SHA-256.
The options of the conversion are those in DST/metalcast.json; where there is none, or to check that a
checkpoint is what certain options give, give them.

It proves that the bytes are what the plan says. Status 7: something differs, and each difference is located.

With --error it compares no bytes but measures what quantizing cost, in a checkpoint by metalcast or by mlx_lm.convert:
for each tensor the error relative to SRC's weights (root of the sum of squared differences over that of
squared weights), and the worst groups; --html FILE draws it, layer by layer.`,
		Example: `  metalcast verify Qwen3.6-35B-A3B-FP8 Qwen3.6-35B-A3B-bf16
  metalcast verify Qwen3.6-35B-A3B-FP8 Qwen3.6-35B-A3B-bf16 --sample 5%
  metalcast verify Qwen3.6-35B-A3B-FP8 Qwen3.6-35B-A3B-4bit --error --html error.html`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Sample, err = parsePart(sample); err != nil {
				return err
			}
			if err := e.check(cmd); err != nil {
				return err
			}
			if c.Quantize, err = q.options(); err != nil {
				return err
			}
			given := cmd.Flags().Changed("scales") || cmd.Flags().Changed("trust-scales")
			for _, name := range choosing {
				given = given || cmd.Flags().Changed(name)
			}
			if given {
				o.Convert = &c
			}
			o.Revision, o.MaxMemory = c.Revision, c.MaxMemory
			o.Warn = func(message string) { u.warningf("%s", message) }
			o.Progress = u.watcher()
			if e.on {
				return e.run(cmd.Context(), u, args[0], args[1], o)
			}
			r, err := metalcast.Verify(cmd.Context(), args[0], args[1], o)
			u.endProgress()
			if r == nil || err != nil && !errors.Is(err, metalcast.ErrMismatch) {
				return err
			}
			if u.json {
				if printErr := u.printJSON(r); printErr != nil {
					return printErr
				}
				if err == nil {
					return nil
				}
				return alreadyShown{err}
			}
			showVerification(u, r)
			return err
		},
	}
	conversionFlags(cmd, &c)
	q.register(cmd)
	f := cmd.Flags()
	f.StringVar(&sample, "sample", "", "recompute only a part of the tensors, such as 5% or 0.05, in windows of up to 16 MiB; other files are compared in full; SHA-256s are skipped")
	f.BoolVar(&e.on, "error", false, "measure the error of quantized weights, and nothing else")
	f.StringVar(&e.html, "html", "", "with --error: also write tables and a map of the error to this file")
	f.StringVar(&o.Device, "device", "auto", "auto, metal or cpu: what recomputes")
	f.BoolVar(&u.json, "json", false, "print one JSON document")
	u.registerProgress(cmd)
	return cmd
}

// alreadyShown is an error whose details are on standard output already.
type alreadyShown struct{ error }

func (s alreadyShown) Unwrap() error { return s.error }

// parsePart reads 5% and 0.05.
func parsePart(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	part, err := strconv.ParseFloat(number, 64)
	if percent {
		part /= 100
	}
	if err != nil || !(part > 0 && part <= 1) {
		return 0, usageError{fmt.Errorf("--sample: %q is no part of a whole; write 5%% or 0.05", text)}
	}
	return part, nil
}

func showVerification(u *ui, r *metalcast.Verification) {
	w := u.table()
	w.fact("source", "%s", r.Source)
	w.fact("checkpoint", "%s", r.Destination)
	if r.Family != "" { // it was compared
		showCompared(w, r)
	}
	w.flush()
	for _, p := range r.Problems {
		u.errorf("problem: %s", p)
	}
	showDifferences(u, r.Differences)
	switch {
	case len(r.Problems)+len(r.Differences) > 0:
	case r.Sample < 1:
		u.messagef("%s matches its source, as far as the sample shows (%.1f s)", r.Destination, r.Seconds)
	default:
		u.messagef("%s matches its source (%.1f s)", r.Destination, r.Seconds)
	}
}

// How many differing tensors are named, of one shard and in all. The others are counted, shard by
// shard.
const mostOfShard, mostNamed = 10, 20

// showDifferences names differing tensors, the first ones of each shard.
func showDifferences(u *ui, list []metalcast.TensorProblem) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b metalcast.TensorProblem) int { return cmp.Compare(a.Shard, b.Shard) })
	for left := mostNamed; len(list) > 0; {
		shard := list[0].Shard
		n := slices.IndexFunc(list, func(d metalcast.TensorProblem) bool { return d.Shard != shard })
		if n < 0 {
			n = len(list)
		}
		named := min(n, mostOfShard, left)
		left -= named
		for _, d := range list[:named] {
			u.errorf("problem: %s: tensor %q: differs from what was recomputed, %s in all, the first at %s (byte %d)", d.Shard, d.Tensor, count(int(d.Bytes), "byte"), d.Where, d.Byte)
		}
		switch {
		case named == 0:
			u.errorf("problem: %s: %s, different from what was recomputed", shard, count(n, "tensor"))
		case n > named:
			u.errorf("problem: %s: and %s more", shard, count(n-named, "tensor"))
		}
		list = list[n:]
	}
}

// showCompared says what was compared with what.
func showCompared(w table, r *metalcast.Verification) {
	w.fact("family", "%s, layout %s", r.Family, r.Layout)
	early := ""
	if r.EndedEarly {
		early = ", then so much differed that the rest was not"
	}
	w.fact("tensors", "%s, %s compared with a second computation by %s%s", count(r.Tensors, "tensor"), bytesText(r.Bytes), r.Device, early)
	if r.Sample < 1 {
		w.fact("", "a sample: %.3g %% of %s", 100*float64(r.Bytes)/float64(max(r.DataBytes, 1)), bytesText(r.DataBytes))
	}
	w.fact("coverage", "%s of the source used, with %s", count(r.SourceUsed, "tensor"), count(r.SourceScales, "scale"))
	for _, d := range r.Dropped {
		w.fact("", "%s dropped: %s", count(len(d.Tensors), "tensor"), d.Reason)
	}
	for i, s := range r.Sums {
		w.fact(first(i, "sha256"), "%s  %s", s.SHA256, s.Name)
	}
}
