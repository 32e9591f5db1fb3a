package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/fault"
)

// mlxFlags are those of mlx_lm.convert, so that its command lines work here.
type mlxFlags struct {
	hfPath, model, mlxPath string
	dequantize, trust      bool
	uploadRepo             string
}

func newConvert(u *ui) *cobra.Command {
	var o metalcast.Options
	var m mlxFlags
	var q quantFlags
	var nan string
	var dryRun bool
	c := &cobra.Command{
		Use:   "convert SRC DST",
		Short: "convert a checkpoint into a new directory",
		Long: `convert writes the converted checkpoint of SRC, a directory or the id of a model in the local hub cache, into
the new directory DST. FP8 weights become bfloat16, experts are laid out as the family's runtimes expect them,
everything else passes as it is. With -q weights are quantized on the way, as mlx_lm.convert -q does, bit for
bit. DST appears complete or not at all.

The flags of mlx_lm.convert work too: --hf-path, --mlx-path, --dtype and so on.

` + exitStatuses,
		Example: `  metalcast convert Qwen3.6-35B-A3B-FP8 Qwen3.6-35B-A3B-bf16
  metalcast convert Qwen/Qwen3.6-35B-A3B-FP8 out --max-memory 256MiB --verify
  metalcast convert Qwen3.6-35B-A3B-FP8 Qwen3.6-35B-A3B-4bit -q
  metalcast convert Qwen3.6-35B-A3B-FP8 --dry-run`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, dst, err := m.paths(args, dryRun)
			if err != nil {
				return err
			}
			if o.Quantize, err = q.options(); err != nil {
				return err
			}
			if o.Quantize != nil && m.dequantize {
				return usageError{errors.New("-q and -d exclude each other")}
			}
			if strings.HasPrefix(m.uploadRepo, "-") {
				return usageError{fmt.Errorf("--upload-repo: %q is no repository id", m.uploadRepo)}
			}
			switch nan {
			case "error", "keep":
				o.KeepNaN = nan == "keep"
			default:
				return usageError{fmt.Errorf("--nan-policy: %q is neither error nor keep", nan)}
			}
			if dryRun {
				return showPlan(cmd, u, src, o)
			}
			o.Warn = func(message string) { u.warningf("%s", message) }
			o.Progress = u.watcher()
			return convert(cmd, u, src, dst, o, m.uploadRepo)
		},
	}
	conversionFlags(c, &o)
	f := c.Flags()
	f.StringVar(&o.Device, "device", "auto", "auto, metal or cpu; never changes a byte of the output")
	f.StringVar(&nan, "nan-policy", "error", "error or keep: what to do about NaN codes and non-finite scales")
	f.BoolVar(&o.AllowOverflow, "allow-overflow", false, "let values that are too large for --dtype become infinite")
	f.BoolVar(&o.IgnoreSpace, "ignore-space", false, "start even if the disk seems too small")
	f.BoolVar(&o.Restart, "restart", false, "discard DST.partial and start over (default: resume)")
	f.Var(sizeFlag{&o.CheckpointEvery}, "checkpoint-every", "how much output a crash may cost, approximately (default 2GiB)")
	f.BoolVar(&o.Hashes, "hashes", false, "also record the SHA-256 of the shards in metalcast.json, which takes reading them back")
	f.BoolVar(&o.Verify, "verify", false, "before DST appears, read everything back and compare it with a second computation")
	f.BoolVar(&dryRun, "dry-run", false, "show the plan and write nothing; DST is optional")
	f.BoolVar(&u.json, "json", false, "print one JSON document")
	u.registerProgress(c)
	q.register(c)
	m.register(c)
	return c
}

func (m *mlxFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&m.hfPath, "hf-path", "", "SRC, as mlx_lm.convert calls it")
	f.StringVar(&m.model, "model", "", "the same as --hf-path")
	f.StringVar(&m.mlxPath, "mlx-path", "", "DST, as mlx_lm.convert calls it (default mlx_model if SRC is given by --hf-path)")
	f.BoolVarP(&m.dequantize, "dequantize", "d", false, "accepted: dequantizing is what convert does")
	f.BoolVar(&m.trust, "trust-remote-code", false, "accepted and ignored: code in a checkpoint is never run")
	f.StringVar(&m.uploadRepo, "upload-repo", "", "print the command that uploads DST to this repository")
}

// paths takes SRC and DST from the arguments or from mlx_lm's flags. A dry run needs no DST.
func (m *mlxFlags) paths(args []string, dryRun bool) (src, dst string, err error) {
	flagged := m.hfPath
	if m.model != "" {
		if flagged != "" {
			return "", "", usageError{errors.New("--model and --hf-path are the same flag; give one")}
		}
		flagged = m.model
	}
	dst = m.mlxPath
	switch {
	case flagged != "" && len(args) > 0:
		return "", "", usageError{fmt.Errorf("the source is given twice: %s and %s", args[0], flagged)}
	case len(args) == 2 && dst != "":
		return "", "", usageError{fmt.Errorf("the destination is given twice: %s and %s", args[1], dst)}
	case len(args) == 2:
		return args[0], args[1], nil
	case len(args) == 1 && dst != "":
		return args[0], dst, nil
	case len(args) == 1 && dryRun:
		return args[0], "mlx_model", nil
	case len(args) == 1:
		return "", "", usageError{errors.New("convert takes a source and a destination: metalcast convert SRC DST")}
	case flagged == "":
		return "", "", usageError{errors.New("nothing to convert: metalcast convert SRC DST")}
	case dst == "":
		dst = "mlx_model"
	}
	return flagged, dst, nil
}

func convert(cmd *cobra.Command, u *ui, src, dst string, o metalcast.Options, upload string) error {
	r, err := metalcast.Convert(cmd.Context(), src, dst, o)
	u.endProgress()
	if err != nil {
		if steps, ok := mlxSteps(metalcast.Hint(err), src, dst, o); ok {
			err = fault.WithHint(err, steps)
		}
		return err
	}
	if u.json {
		return u.printJSON(r)
	}
	showReport(u, r)
	nextSteps(u, r, src, dst, upload)
	return nil
}

// mlxSteps fills the user's paths and flags into a hint of commands, part of which mlx_lm does.
func mlxSteps(hint, src, dst string, o metalcast.Options) (string, bool) {
	from, first, q := src, "", o.Quantize
	switch {
	case strings.HasPrefix(hint, "in two steps"):
		from = beside(dst, "-bf16")
		args := []string{"metalcast", "convert", path(src), path(from)}
		if o.Scales != "" {
			args = append(args, "--scales", string(o.Scales))
		}
		first = command(args...) + " && "
		hint = "in two steps: "
	case strings.HasPrefix(hint, "in one step"):
		hint = "in one step: "
	default:
		return "", false
	}
	args := []string{"mlx_lm.convert", "--hf-path", path(from), "--mlx-path", path(dst)}
	if q != nil {
		args = append(append(args, "-q"), mlxQuantFlags(q)...)
	}
	return hint + first + command(args...), true
}

func showReport(u *ui, r *metalcast.Report) {
	for _, n := range r.Notes {
		u.warningf("%s", n)
	}
	for i, f := range r.Findings {
		if i == 10 {
			u.warningf("... and %s more", count(len(r.Findings)-i, "tensor"))
			break
		}
		u.warningf("tensor %q: %d NaN codes, %d non-finite scales, %d values became infinite, %d weights are beyond what models hold", f.Tensor, f.NaNCodes, f.BadScales, f.Overflows, f.Large)
	}
	if r.NVFP4Groups > 0 && 50*r.NVFP4Coarse > r.NVFP4Groups || r.NVFP4Zeroed > 0 {
		u.warningf("nvfp4 without a scale for the whole tensor: %.2f %% of the groups became zero and %.1f %% have a coarse scale, for their weights are small; affine or mxfp4 keep them",
			100*float64(r.NVFP4Zeroed)/float64(r.NVFP4Groups), 100*float64(r.NVFP4Coarse)/float64(r.NVFP4Groups))
	}
	verified := ""
	if r.Verified {
		verified = ", verified byte by byte"
	}
	if r.Resumed {
		u.messagef("an interrupted run had done a part, which was kept")
	}
	u.messagef("%s: %s in %s, %s%s", r.Destination, count(len(r.Tensors), "tensor"), count(len(r.Shards), "shard"), bytesText(r.DiskBytes), verified)
	rate := ""
	if n := r.BytesRead + r.BytesWritten; n > 0 { // nothing if an earlier run had done it all
		rate = fmt.Sprintf("%s/s read and written, ", bytesText(int64(float64(n)/max(r.Seconds, 1e-3))))
	}
	u.messagef("%.1f s, %speak memory %s, computed by %s", r.Seconds, rate, bytesText(r.PeakMemory), r.Device)
}

// nextSteps prints the commands that usually follow.
func nextSteps(u *ui, r *metalcast.Report, src, dst, upload string) {
	generate := command("mlx_lm.generate", "--model", path(dst), "--prompt", "Hello")
	if !r.Tokenizer && (r.MLXProblem == "" || !r.Known) {
		u.warningf("no tokenizer lies beside the weights; mlx_lm.generate needs one, such as tokenizer.json, in %s", path(dst))
	}
	switch {
	case !r.Known:
		u.messagef("%s; to try it:", r.MLXProblem)
		u.messagef("  %s", generate)
	case r.MLXProblem != "":
		u.messagef("mlx-lm does not load this: %s", r.MLXProblem)
	default:
		u.messagef("next:")
		u.messagef("  %s", generate)
		switch quantized := path(beside(dst, "-4bit")); {
		case r.Quantization != nil:
		case r.Quantizes:
			u.messagef("  %s", command("metalcast", "convert", path(src), quantized, "-q"))
		default:
			u.messagef("  %s", command("mlx_lm.convert", "--hf-path", path(dst), "--mlx-path", quantized, "-q"))
		}
	}
	if upload != "" {
		u.messagef("  %s", command("hf", "upload-large-folder", upload, path(dst), "--repo-type", "model"))
	}
}

// beside returns a sibling of dst, however dst is written: even for "out/" and ".".
func beside(dst, suffix string) string {
	dst = filepath.Clean(dst)
	if base := filepath.Base(dst); base == "." || base == ".." {
		if abs, err := filepath.Abs(dst); err == nil {
			dst = abs
		}
	}
	return dst + suffix
}
