package metalcast

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/pass"
	"github.com/metalcast/metalcast/internal/plan"
	"github.com/metalcast/metalcast/internal/record"
	"github.com/metalcast/metalcast/internal/safetensors"
)

// VerifyOptions are the options of Verify. The zero value compares everything.
type VerifyOptions struct {
	// Convert has the options that DST was made with; nil takes them from its metalcast.json.
	Convert *Options
	// Sample is the fraction of the output's data that is recomputed, in (0, 1], rounded up to whole
	// windows of up to 16 MiB; 0 is all. Which windows those are depends only on the checkpoint and
	// MaxMemory.
	Sample float64
	// Revision, Device, MaxMemory, Warn and Progress are as in Options, but the default device is the
	// CPU: a GPU, if there is one, made the bytes.
	Revision  string
	Device    string
	MaxMemory int64
	Warn      func(message string)
	Progress  func(phase string, done, total int64)
}

// Verification is the result of comparing a converted checkpoint with its source.
type Verification struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Family      string `json:"family"`
	Layout      string `json:"layout"`
	Device      string `json:"device"`
	// Sample is the fraction of the output's data that was to be recomputed, at least.
	Sample  float64 `json:"sample"`
	Tensors int     `json:"tensors"` // of the output
	// Bytes of the output's data were recomputed and compared.
	Bytes        int64           `json:"bytes_compared"`
	DataBytes    int64           `json:"bytes"` // of the output's data
	SourceUsed   int             `json:"source_tensors_used"`
	SourceScales int             `json:"source_scales_used"`
	Dropped      []DroppedGroup  `json:"dropped,omitempty"`
	Sums         []FileSum       `json:"sha256,omitempty"` // of every file; not of a sample
	Problems     []string        `json:"problems,omitempty"`
	Differences  []TensorProblem `json:"differences,omitempty"`
	// EndedEarly: so much differs that the rest was not compared.
	EndedEarly bool `json:"ended_early,omitempty"`
	// CutOff has the shards that are too short. Each is also a problem; what they lack is not a
	// difference.
	CutOff  []CutShard `json:"cut_off,omitempty"`
	Seconds float64    `json:"seconds"`
}

// FileSum is a file's SHA-256.
type FileSum struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// CutShard is a shard of the output that ends too early.
type CutShard struct {
	Name    string `json:"name"`
	Tensors int    `json:"tensors"` // that end after it
}

// TensorProblem is a tensor of the output that differs from the recomputed one.
type TensorProblem struct {
	Shard  string  `json:"shard"`
	Tensor string  `json:"tensor"`
	Index  []int64 `json:"index"` // of the first element that differs
	Where  string  `json:"where"` // in words: "expert 3, row 5, column 7"
	Byte   int64   `json:"byte"`  // from the tensor's start
	Bytes  int64   `json:"bytes"` // that differ
}

// mostProblems is how many differing tensors a verification collects.
const mostProblems = 100

// Verify reads the converted checkpoint dst back, strictly, and compares it with src: every tensor
// with a second computation, every other file with what it should be, and the record in
// metalcast.json. If something differs it returns ErrMismatch, in addition to the Verification.
func Verify(ctx context.Context, src, dst string, o VerifyOptions) (*Verification, error) {
	start := time.Now()
	defer pass.LimitMemory(o.MaxMemory)()
	if o.Sample < 0 || o.Sample > 1 {
		return nil, fault.New(ErrUsage, "--sample", "%v is no part of a whole", o.Sample)
	}
	st, err := os.Stat(dst)
	switch {
	case err != nil:
		return nil, fault.Incomplete(dst, "no such directory")
	case !st.IsDir():
		return nil, fault.Incomplete(dst, "a file, a converted checkpoint's directory was expected")
	}
	made, recordErr := record.Read(dst)
	c := Options{}
	switch {
	case o.Convert != nil:
		c = *o.Convert
	case recordErr != nil:
		return nil, fault.WithHint(fault.In(filepath.Join(dst, plan.ProvenanceName), recordErr), "without that record give the options that DST was made with, --layout auto at least")
	default:
		c = optionsOf(made)
	}
	c.Revision, c.Device, c.MaxMemory, c.Warn, c.Progress = o.Revision, o.Device, o.MaxMemory, o.Warn, o.Progress
	source, err := openSource(ctx, src, c.Revision)
	if err != nil {
		return nil, err
	}
	if made != nil {
		if other := made.Source.Differs(source); other != "" {
			problem := fmt.Sprintf("%s: says that this was made from another source: %s", plan.ProvenanceName, other)
			if id := made.Source.Repo; id != "" {
				problem += fmt.Sprintf("; it was %s at %s", id, made.Source.Revision)
			}
			return &Verification{Source: source.Dir, Destination: dst, Problems: []string{problem}}, fault.New(ErrMismatch, dst, "was made from another source")
		}
	}
	p, err := planOf(ctx, source, c)
	if err != nil {
		if o.Convert == nil && (errors.Is(err, ErrUsage) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrNothingToDo)) {
			err = fault.Corrupt(filepath.Join(dst, plan.ProvenanceName), "its options fit no conversion of this source: %v", err)
		}
		return nil, err
	}
	v := &verifier{plan: p, dir: dst, options: c, record: made, wanted: map[string]string{}, result: &Verification{
		Source: p.Source.Dir, Destination: dst, Family: p.Family.Name(), Layout: p.LayoutName(), Sample: o.Sample, Tensors: len(p.Tensors),
		Dropped: droppedGroups(p),
	}}
	if o.Sample == 0 {
		v.result.Sample = 1
	}
	v.coverage()
	for i := range p.Pieces {
		v.result.DataBytes += p.Pieces[i].OutBytes()
	}
	if err := v.run(ctx, c); err != nil {
		return v.result, err
	}
	v.result.Seconds = time.Since(start).Seconds()
	return v.result, v.result.verdict()
}

// verdict returns nil if nothing differs.
func (r *Verification) verdict() error {
	n := len(r.Problems) + len(r.Differences)
	if n == 0 {
		return nil
	}
	e := fault.New(ErrMismatch, r.Destination, "does not match its source: %s", fault.Plural(n, "problem", "problems"))
	if r.EndedEarly {
		e.What += ", at which the comparison ended"
		e = e.WithHint("where so much differs %s is rather another model of the same shapes than the one it was made from", r.Source)
	}
	return e
}

// verifier compares one directory.
type verifier struct {
	plan     *plan.Plan
	dir      string
	options  Options
	record   *record.Record // nil if there is none
	files    []*os.File
	ends     []int64           // their lengths
	wanted   map[string]string // SHA-256 expected of the files beside the shards
	findings []record.Finding
	result   *Verification
}

func (v *verifier) problem(format string, args ...any) {
	v.result.Problems = append(v.result.Problems, fmt.Sprintf(format, args...))
}

// coverage counts what became of the source's tensors.
func (v *verifier) coverage() {
	seen, scales := map[*checkpoint.Tensor]bool{}, map[*checkpoint.Tensor]bool{}
	for i := range v.plan.Pieces {
		q := &v.plan.Pieces[i]
		seen[q.Source] = true
		if q.Scale != nil {
			scales[q.Scale] = true
		}
	}
	v.result.SourceUsed, v.result.SourceScales = len(seen), len(scales)
}

func (v *verifier) run(ctx context.Context, c Options) error {
	defer v.compareRecord()
	v.compareNames()
	if err := v.openShards(); err != nil {
		return err
	}
	defer v.close()
	for i := range v.plan.Shards {
		if v.files[i] == nil {
			continue
		}
		if v.ends[i] < int64(len(v.plan.Shards[i].Header)) {
			continue // its length says that already
		}
		if err := verifyHeader(v.plan, v, i); err != nil {
			v.problem("%s: %v", v.plan.Shards[i].Name, err)
		}
	}
	if err := v.compareFiles(); err != nil {
		return err
	}
	if err := v.compareTensors(ctx, c); err != nil {
		return err
	}
	if v.result.Sample < 1 {
		return nil
	}
	return v.sums(ctx)
}

// compareRecord compares metalcast.json with what it should be.
func (v *verifier) compareRecord() {
	if v.record == nil {
		return
	}
	want := recordOf(v.plan, v.options)
	switch {
	case v.record.Metalcast != want.Metalcast:
		v.problem("%s: was made by metalcast %q, this is %s; only the same version gives the same bytes", plan.ProvenanceName, v.record.Metalcast, want.Metalcast)
		return
	}
	want.Findings, want.Files = v.findings, map[string]string{}
	if v.result.Sample < 1 {
		want.Findings = v.record.Findings
	}
	for name, sum := range v.wanted {
		want.Files[name] = sum
	}
	for _, s := range v.plan.Shards { // recorded only on request
		if sum, ok := v.record.Files[s.Name]; ok {
			want.Files[s.Name] = sum
		}
	}
	text, err := want.Text()
	if err == nil {
		var got []byte
		if got, err = checkpoint.ReadSmall(filepath.Join(v.dir, plan.ProvenanceName)); err == nil && !bytes.Equal(got, text) {
			v.problem("%s: is not what this conversion writes", plan.ProvenanceName)
		}
	}
	if err != nil {
		v.problem("%s: %v", plan.ProvenanceName, err)
	}
}

// compareNames demands the expected files, and no others except those that macOS adds.
func (v *verifier) compareNames() {
	want := map[string]bool{plan.ProvenanceName: true}
	for _, s := range v.plan.Shards {
		want[s.Name] = true
	}
	for _, f := range v.plan.Files {
		want[f.Name] = true
	}
	for _, t := range v.plan.Texts {
		want[t.Name] = true
	}
	have := map[string]bool{}
	_ = filepath.WalkDir(v.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			v.problem("%s: %v", path, err)
			return nil
		}
		name, err := filepath.Rel(v.dir, path)
		switch {
		case err != nil:
		case newdir.VolumeLitter(e) && name == e.Name():
			return fs.SkipDir
		case !e.IsDir():
			have[name] = true
			if !want[name] && !leftover(name) && !newdir.Litter(e) {
				v.problem("%s: is in no plan of this conversion", name)
			}
		}
		return nil
	})
	for name := range want {
		if !have[name] {
			v.problem("%s: is missing", name)
		}
	}
	slices.Sort(v.result.Problems)
}

// leftover reports whether a file is what an interruption right after the final rename leaves.
func leftover(name string) bool { return name == plan.LockName || name == plan.JournalName }

func (v *verifier) openShards() error {
	v.files, v.ends = make([]*os.File, len(v.plan.Shards)), make([]int64, len(v.plan.Shards))
	for i, s := range v.plan.Shards {
		f, err := checkpoint.OpenRegular(filepath.Join(v.dir, s.Name))
		if errors.Is(err, os.ErrNotExist) {
			continue // missing, which has been reported
		}
		if err != nil {
			return err
		}
		v.files[i] = f
		st, err := f.Stat()
		if err != nil {
			return err
		}
		v.ends[i] = st.Size()
		behind := ""
		if n := v.cutOff(i); n > 0 {
			v.result.CutOff = append(v.result.CutOff, CutShard{s.Name, n})
			behind = "; " + fault.Plural(n, "tensor ends", "tensors end") + " behind that"
		}
		if st.Size() != s.Size {
			v.problem("%s: is %d bytes long, %d were written%s", s.Name, st.Size(), s.Size, behind)
		}
	}
	return nil
}

// cutOff counts the tensors of a shard that reach beyond the end of its file.
func (v *verifier) cutOff(shard int) (n int) {
	for i := range v.plan.Tensors {
		if t := &v.plan.Tensors[i]; t.Shard == shard && t.Offset+t.Size > v.ends[shard] {
			n++
		}
	}
	return n
}

// present is a Comparer that compares, and counts, only what lies before the shards' ends. A
// missing shard has nothing before its end.
type present struct {
	*engine.Comparer
	ends  []int64
	bytes int64
}

func (p *present) Write(extents []engine.Extent) error {
	for _, x := range extents {
		x.Data = x.Data[:max(0, min(int64(len(x.Data)), p.ends[x.Shard]-x.Off))]
		p.bytes += int64(len(x.Data))
		if err := p.Comparer.Write([]engine.Extent{x}); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) close() {
	for _, f := range v.files {
		if f != nil {
			f.Close()
		}
	}
}

// ReadAt reads bytes of a shard; beyond its end it reads zeros, because its length is a problem of
// its own.
func (v *verifier) ReadAt(shard int, p []byte, off int64) error {
	n, err := v.files[shard].ReadAt(p, off)
	if n < len(p) && off+int64(n) < v.plan.Shards[shard].Size {
		st, statErr := v.files[shard].Stat()
		if statErr != nil || off+int64(n) < st.Size() {
			return err
		}
	}
	clear(p[n:])
	return nil
}

// compareFiles compares the files beside the shards.
func (v *verifier) compareFiles() error {
	for _, t := range v.plan.Texts {
		v.wanted[t.Name] = sum(t.Data)
		got, err := checkpoint.ReadSmall(filepath.Join(v.dir, t.Name))
		if errors.Is(err, os.ErrNotExist) {
			continue // missing, which has been reported
		}
		if err != nil || !bytes.Equal(got, t.Data) {
			v.problem("%s: is not what this conversion writes", t.Name)
		}
	}
	for _, f := range v.plan.Files {
		want, err := sumOf(v.plan.Source.OpenFile(f.Name))
		if err != nil {
			return err
		}
		v.wanted[f.Name] = want
		got, err := sumOf(checkpoint.OpenRegular(filepath.Join(v.dir, f.Name)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || got != want {
			v.problem("%s: is not the source's", f.Name)
		}
	}
	return nil
}

// compareTensors recomputes the tensors and compares them.
func (v *verifier) compareTensors(ctx context.Context, c Options) error {
	runner, err := pass.New(v.plan, c.pass().Recheck())
	if err != nil {
		return err
	}
	defer runner.Close()
	v.result.Device, runner.Sample = runner.Device, v.result.Sample
	compare := &present{Comparer: &engine.Comparer{Plan: v.plan, Disk: v, Most: mostProblems}, ends: v.ends}
	r, err := runner.Run(ctx, "verifying", compare, engine.Progress{})
	v.result.EndedEarly = errors.Is(err, ErrMismatch)
	if err != nil && !v.result.EndedEarly {
		return err
	}
	v.result.Bytes, v.findings = compare.bytes, found(r)
	for i := range compare.Found {
		m := &compare.Found[i]
		v.result.Differences = append(v.result.Differences, TensorProblem{m.Shard, m.Tensor, m.Index, m.Where(), m.Byte, m.Bytes})
	}
	return runner.Source.Unchanged()
}

// sums computes every file's SHA-256 and compares it with the record's.
func (v *verifier) sums(ctx context.Context) error {
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || leftover(e.Name()) || newdir.Litter(e) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		sum, err := sumOf(checkpoint.OpenRegular(filepath.Join(v.dir, e.Name())))
		if err != nil {
			return err
		}
		v.result.Sums = append(v.result.Sums, FileSum{e.Name(), sum})
		if v.record == nil {
			continue
		}
		// A shard that is cut off has been reported.
		cut := slices.ContainsFunc(v.result.CutOff, func(c CutShard) bool { return c.Name == e.Name() })
		if want, ok := v.record.Files[e.Name()]; ok && want != sum && !cut {
			v.problem("%s: its SHA-256 is %s, %s says %s", e.Name(), sum, plan.ProvenanceName, want)
		}
	}
	return nil
}

// reader reads the bytes of a directory's shards.
type reader interface {
	ReadAt(shard int, p []byte, off int64) error
}

// verifyHeader reads a shard's header back, both strictly and byte for byte.
func verifyHeader(p *plan.Plan, d reader, i int) error {
	s := &p.Shards[i]
	got := make([]byte, len(s.Header))
	if err := d.ReadAt(i, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, s.Header) {
		return fault.New(ErrMismatch, "", "the header on disk is not the one that was written")
	}
	_, err := safetensors.Read(shardReader{d, i}, s.Size)
	return err
}

// shardReader is a shard as an io.ReaderAt.
type shardReader struct {
	dir   reader
	shard int
}

func (r shardReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.dir.ReadAt(r.shard, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// sumOf returns the SHA-256 of a file that was just opened, and closes it.
func sumOf(f io.ReadCloser, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// shardSum returns the SHA-256 of a shard of a directory.
func shardSum(d reader, shard int, size int64) (string, error) {
	return sumOf(io.NopCloser(io.NewSectionReader(shardReader{d, shard}, 0, size)), nil)
}
