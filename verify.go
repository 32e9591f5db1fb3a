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

// VerifyOptions are the choices of a verification. The zero value compares everything.
type VerifyOptions struct {
	// Convert are the options that DST was made with; nil takes them from its metalcast.json.
	Convert *Options
	// Sample is the part of the output's data that is computed again, in (0, 1], rounded up to whole windows of up to 16 MiB; 0 is all. Which they are depends on the checkpoint
	// and MaxMemory alone.
	Sample float64
	// Revision, Device, MaxMemory, Warn and Progress are as in Options; the default device is the CPU, for a GPU made the bytes, if there is one.
	Revision  string
	Device    string
	MaxMemory int64
	Warn      func(message string)
	Progress  func(phase string, done, total int64)
}

// Verification is what comparing a converted checkpoint with its source found.
type Verification struct {
	Source       string          `json:"source"`
	Destination  string          `json:"destination"`
	Family       string          `json:"family"`
	Layout       string          `json:"layout"`
	Device       string          `json:"device"`
	Sample       float64         `json:"sample"`         // part of the output's data that was to be computed again, at least
	Tensors      int             `json:"tensors"`        // of the output
	Bytes        int64           `json:"bytes_compared"` // of the output's data, computed again and compared
	DataBytes    int64           `json:"bytes"`          // of the output's data
	SourceUsed   int             `json:"source_tensors_used"`
	SourceScales int             `json:"source_scales_used"`
	Dropped      []DroppedGroup  `json:"dropped,omitempty"`
	Sums         []FileSum       `json:"sha256,omitempty"` // of every file; not of a sample
	Problems     []string        `json:"problems,omitempty"`
	Differences  []TensorProblem `json:"differences,omitempty"`
	EndedEarly   bool            `json:"ended_early,omitempty"` // so much differs that the rest was not compared
	CutOff       []CutShard      `json:"cut_off,omitempty"`     // shards that are too short, each also a problem; what they lack is no difference
	Seconds      float64         `json:"seconds"`
}

// FileSum is a file's SHA-256.
type FileSum struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// CutShard is a shard of the output that ends too early.
type CutShard struct {
	Name    string `json:"name"`
	Tensors int    `json:"tensors"` // that end behind it
}

// TensorProblem is a tensor of the output that is not what was computed again.
type TensorProblem struct {
	Shard  string  `json:"shard"`
	Tensor string  `json:"tensor"`
	Index  []int64 `json:"index"` // of the first element that differs
	Where  string  `json:"where"` // in words: "expert 3, row 5, column 7"
	Byte   int64   `json:"byte"`  // from the tensor's start
	Bytes  int64   `json:"bytes"` // that differ
}

// mostProblems is how many tensors that differ a verification goes on to collect.
const mostProblems = 100

// Verify reads the converted checkpoint dst back, strictly, and compares it with src: every tensor with a second computation, every other file with what
// it should be, and the record in metalcast.json. It gives ErrMismatch, beside the Verification, where something differs.
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

// verdict is nil where nothing differs.
func (r *Verification) verdict() error {
	n := len(r.Problems) + len(r.Differences)
	if n == 0 {
		return nil
	}
	e := fault.New(ErrMismatch, r.Destination, "is not what its source gives: %s", fault.Plural(n, "problem", "problems"))
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
	record   *record.Record // nil where there is none
	files    []*os.File
	ends     []int64           // their lengths
	wanted   map[string]string // SHA-256 that the files beside the shards should have
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
			continue // which its length says
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
	for _, s := range v.plan.Shards { // recorded only where that was asked for
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

// compareNames demands the files that should be there and no others but what macOS adds.
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

// leftover tells whether a file is what a run leaves that is cut short right after its last rename.
func leftover(name string) bool { return name == plan.LockName || name == plan.JournalName }

func (v *verifier) openShards() error {
	v.files, v.ends = make([]*os.File, len(v.plan.Shards)), make([]int64, len(v.plan.Shards))
	for i, s := range v.plan.Shards {
		f, err := checkpoint.OpenRegular(filepath.Join(v.dir, s.Name))
		if errors.Is(err, os.ErrNotExist) {
			continue // it is missing, which is said already
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

// cutOff counts the tensors of a shard that end behind its file.
func (v *verifier) cutOff(shard int) (n int) {
	for i := range v.plan.Tensors {
		if t := &v.plan.Tensors[i]; t.Shard == shard && t.Offset+t.Size > v.ends[shard] {
			n++
		}
	}
	return n
}

// present is a Comparer that compares what lies before the shards' ends, and counts it. Of a shard that is missing that is nothing.
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

// ReadAt gives bytes of a shard; what lies behind its end reads as zeros, for its length is a problem of its own.
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
			continue // it is missing, which is said already
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

// compareTensors computes again and compares.
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
		cut := slices.ContainsFunc(v.result.CutOff, func(c CutShard) bool { return c.Name == e.Name() }) // which is said
		if want, ok := v.record.Files[e.Name()]; ok && want != sum && !cut {
			v.problem("%s: its SHA-256 is %s, %s says %s", e.Name(), sum, plan.ProvenanceName, want)
		}
	}
	return nil
}

// reader gives the bytes of a directory's shards.
type reader interface {
	ReadAt(shard int, p []byte, off int64) error
}

// verifyHeader reads a shard's header back, as a reader would and byte for byte.
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

// sumOf is the SHA-256 of a file just opened, which it closes.
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

// shardSum is the SHA-256 of a shard of a directory.
func shardSum(d reader, shard int, size int64) (string, error) {
	return sumOf(io.NopCloser(io.NewSectionReader(shardReader{d, shard}, 0, size)), nil)
}
