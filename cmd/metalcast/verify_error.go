package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/loss"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/pass"
)

// errorFlags are those of verify --error.
type errorFlags struct {
	on   bool
	html string
}

// choosing are the flags that choose a conversion's bytes, except for --scales.
var choosing = []string{"layout", "dtype", "keep-mtp", "max-shard-size", "quantize"}

// check refuses flags that do not go together.
func (e *errorFlags) check(cmd *cobra.Command) error {
	if !e.on {
		if cmd.Flags().Changed("html") {
			return usageError{errors.New("--html goes with --error")}
		}
		return nil
	}
	for _, name := range append([]string{"sample"}, choosing...) {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--error measures all of DST as it is; leave --%s out", name)}
		}
	}
	if cmd.Flags().Changed("html") && e.html == "" {
		return usageError{errors.New("--html: no file is named")}
	}
	return nil
}

// run measures, prints the result, and writes the file. It checks that the file can be written
// before the work.
func (e *errorFlags) run(ctx context.Context, u *ui, src, dst string, o metalcast.VerifyOptions) (err error) {
	var page *newFile
	if e.html != "" {
		if page, err = createBeside(e.html, src, dst); err != nil {
			return err
		}
		defer page.remove()
	}
	lo := loss.Options{Tool: "metalcast " + metalcast.Version, Revision: o.Revision, Pass: pass.Options{Device: o.Device, MaxMemory: o.MaxMemory, Warn: o.Warn, Progress: o.Progress}}
	if o.Convert != nil {
		lo.Scales = &o.Convert.Scales
	}
	r, err := loss.Measure(ctx, src, dst, lo)
	u.endProgress()
	if err != nil {
		return err
	}
	if page != nil {
		if err := r.WriteHTML(page); err != nil {
			return fault.In(e.html, err)
		}
		if err := page.commit(); err != nil {
			return err
		}
	}
	if u.json {
		return u.printJSON(r)
	}
	showError(u, r)
	if page != nil {
		u.messagef("wrote %s", path(e.html))
	}
	return nil
}

// newFile is a file that gets its name once it is complete.
type newFile struct {
	*os.File
	path string
}

// createBeside creates the file that will be called name. It replaces a file of that name, but none
// of a checkpoint.
func createBeside(name string, checkpoints ...string) (*newFile, error) {
	where := "--html " + name
	real, mode := name, fs.FileMode(0o644)
	if st, err := os.Stat(name); err == nil {
		if !st.Mode().IsRegular() {
			return nil, fault.New(metalcast.ErrUsage, where, "is there already, and no file")
		}
		if real, err = filepath.EvalSymlinks(name); err != nil {
			return nil, err
		}
		mode = st.Mode().Perm()
	}
	dir, err := filepath.Abs(filepath.Dir(real))
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(metalcast.ErrUsage, where, "its directory does not exist")
	} else if err != nil {
		return nil, err
	}
	for _, c := range checkpoints {
		if st, err := os.Stat(c); err == nil && newdir.Inside(st, dir) { // a model id is not a directory
			return nil, fault.New(metalcast.ErrUsage, where, "lies inside %s, which stays as it is", c).WithHint("choose a file elsewhere")
		}
	}
	f, err := os.CreateTemp(dir, ".metalcast-*.html")
	if err != nil {
		return nil, err
	}
	n := &newFile{f, filepath.Join(dir, filepath.Base(real))}
	if err := f.Chmod(mode); err != nil {
		n.remove()
		return nil, err
	}
	return n, nil
}

func (f *newFile) commit() error {
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), f.path)
}

// remove removes a file that was not committed.
func (f *newFile) remove() {
	f.Close()
	os.Remove(f.Name())
}

// mostShown is how many tensors the table has; --json and --html have all.
const mostShown = 10

func showError(u *ui, r *loss.Loss) {
	w := u.table()
	w.fact("source", "%s", r.Source)
	w.fact("checkpoint", "%s", r.Destination)
	w.fact("family", "%s", r.Family)
	w.fact("quantized", "%s of %s weights; %s not", count(len(r.Tensors), "tensor"), humanize.Comma(r.Total.Weights), count(r.Others, "tensor"))
	w.fact("error", "%s relative RMSE", r.Total.RelativeRMSE)
	w.fact("groups", "%s, the worst %s; %s", humanize.Comma(r.Total.Groups), r.Total.MaxGroupError, zeroed(r.Total.ZeroedGroups))
	w.flush()
	u.linef("")
	w = u.table()
	w.row("module", "tensors", "format", "relative RMSE", "worst tensor", "worst group", "zeroed groups")
	for _, m := range r.Modules {
		w.row(m.Module, humanize.Comma(int64(m.Tensors)), strings.Join(m.Formats, ", "), m.RelativeRMSE.String(), m.WorstRMSE.String(), m.MaxGroupError.String(), humanize.Comma(m.ZeroedGroups))
	}
	w.flush()
	u.linef("")
	w = u.table()
	w.row("worst tensors", "format", "relative RMSE", "worst group", "where")
	for _, t := range r.Tensors[:min(len(r.Tensors), mostShown)] {
		where := ""
		if len(t.Worst) > 0 {
			where = t.Worst[0].Where
		}
		w.row(t.Name, t.Format, t.RelativeRMSE.String(), t.MaxGroupError.String(), where)
	}
	if more := len(r.Tensors) - mostShown; more > 0 {
		w.row(fmt.Sprintf("and %s, which --json and --html have", count(more, "other")))
	}
	w.flush()
}

func zeroed(n int64) string {
	if n == 0 {
		return "none became all zero"
	}
	return humanize.Comma(n) + " became all zero"
}
