package partial

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/metalcast/metalcast/internal/engine"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
	"github.com/metalcast/metalcast/internal/plan"
)

// lockName marks a directory as metalcast's work in progress. The lock on it ends with the process
// that holds it.
const (
	lockName = plan.LockName
	lockText = "a conversion by metalcast is in progress here, or was interrupted\n"
)

// DefaultEvery is how many bytes of output a crash may cost: those written since the last save
// point.
const DefaultEvery = 2 << 30

// Dir is the Sink that makes a checkpoint directory. All work happens in DST.partial; DST appears,
// complete and synced, by one rename. The first 8 bytes of a shard stay zero until its data is
// synced, so that no reader takes it for a safetensors file. A journal records what is durable, so
// that an interrupted conversion can be resumed.
type Dir struct {
	fs      FS
	path    string // of DST
	empty   bool   // DST was an empty directory
	partial string
	unlock  func() error
	removed bool // an earlier conversion's work, which was of no use
	plan    *plan.Plan
	files   []File
	journal *journal
	state   []byte
	opts    DirOptions
	every   int64

	done     engine.PieceSet // written, durable or not
	counts   engine.Counts   // of them
	progress engine.Progress // at the last save point: what the journal says
	touched  []bool          // shards written since then
	unsafe   int64           // bytes written since then
	broken   bool            // a write or a sync failed
}

// DirOptions are the options of CreateDir.
type DirOptions struct {
	FS FS // nil: OS
	// JSON on one line: what the output's bytes depend on. Only a conversion with the same State
	// resumes what another has left.
	State   []byte
	Restart bool         // removes what an earlier conversion left, whatever it was
	Every   int64        // bytes of output between save points, approximately; 0: DefaultEvery
	Room    func() error // called before anything is created; not when resuming; may stop CreateDir
	Made    func() error // called once new shards have their disk space; may stop CreateDir
	Warn    func(string) // receives what the file system lacks; may be nil
}

// Differs is the error for a DST.partial that was started with another State.
type Differs struct {
	Partial   string
	Had, Have []byte // the States
}

func (d *Differs) Error() string {
	return d.Partial + ": was left by a run with other options or another source"
}

// StartedOver reports whether an earlier conversion's work was removed without being asked to,
// because it had reached no save point.
func (d *Dir) StartedOver() bool { return d.removed }

// CreateDir makes DST.partial with all shards at their final size, or resumes what an earlier run
// of the same conversion has left. dst's parent must exist and be free of links.
func CreateDir(dst string, p *plan.Plan, o DirOptions) (*Dir, error) {
	if o.FS == nil {
		o.FS = OS{}
	}
	empty, err := o.FS.Free(dst)
	if err != nil {
		return nil, err
	}
	d := &Dir{
		fs: o.FS, path: dst, empty: empty, partial: newdir.Partial(dst), plan: p, state: o.State, opts: o, every: cmp.Or(o.Every, DefaultEvery),
		done: engine.NewPieceSet(len(p.Pieces)), touched: make([]bool, len(p.Shards)),
	}
	resume, err := d.begin(o.Restart)
	if err != nil {
		return nil, err
	}
	if resume {
		if err := d.resume(); err != nil {
			return nil, errors.Join(err, d.close())
		}
		return d, nil
	}
	err = d.create()
	if err == nil && o.Made != nil {
		err = o.Made()
	}
	if err != nil {
		return nil, errors.Join(err, d.Abort())
	}
	return d, nil
}

// begin makes DST.partial, or takes over an existing one, and locks it. If it fails it removes what
// it made. It reports whether an earlier conversion can be resumed.
func (d *Dir) begin(restart bool) (resume bool, err error) {
	err = d.fs.Mkdir(d.partial, d.path)
	found := errors.Is(err, fs.ErrExist)
	if err != nil && !found {
		return false, newdir.Explain(d.partial, err)
	}
	left := false
	if found {
		if left, err = d.leftBehind(); err != nil {
			return false, err
		}
	}
	marker := filepath.Join(d.partial, lockName)
	unlock, ok, err := d.fs.Lock(marker)
	unlocked := errors.Is(err, errors.ErrUnsupported)
	if unlocked {
		unlock, ok, err = func() error { return nil }, true, nil
	}
	switch {
	case err == nil && !ok:
		return false, fault.New(nil, d.partial, "another metalcast is writing there")
	case err == nil && left && !restart:
		resume, err = d.canResume()
		if err != nil {
			return false, errors.Join(err, unlock())
		}
	}
	if err == nil && !resume {
		d.removed = left && !restart
		if err = d.clear(); err == nil && d.opts.Room != nil {
			err = d.opts.Room()
		}
		if err == nil {
			err = d.writeMarker(marker)
		}
	}
	if err != nil {
		if unlock != nil {
			_ = unlock() // err matters more
		}
		if !left { // an earlier conversion keeps its marker
			_ = d.fs.Remove(marker)
			_ = d.fs.Remove(d.partial) // if it is empty
		}
		if said := (*fault.Error)(nil); errors.As(err, &said) { // from Room
			return false, err
		}
		return false, newdir.Explain(d.partial, err)
	}
	d.unlock = unlock
	if unlocked {
		d.warn("its file system has no locks; let no other metalcast write there meanwhile")
	}
	return resume, nil
}

// warn reports what the file system of DST.partial lacks.
func (d *Dir) warn(what string) {
	if d.opts.Warn != nil {
		d.opts.Warn(d.partial + ": " + what)
	}
}

// writeMarker makes the mark durable before anything else exists: what is found without it is not
// metalcast's.
func (d *Dir) writeMarker(name string) error {
	f, err := d.fs.Create(name, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(lockText), 0)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.fs.SyncDir(d.partial)
}

// leftBehind reports whether an existing DST.partial is the work of an earlier conversion. If it is
// neither that nor empty it is refused.
func (d *Dir) leftBehind() (bool, error) {
	names, err := d.fs.List(d.partial)
	if err != nil {
		return false, newdir.Explain(d.partial, err)
	}
	if names = slices.DeleteFunc(names, litter); len(names) == 0 {
		return false, nil
	}
	text, err := readIfThere(d.fs, d.partial, lockName)
	if err != nil {
		return false, d.explain(lockName, err)
	}
	if string(text) != lockText && !(len(text) == 0 && len(names) == 1 && names[0] == lockName) {
		return false, fault.New(nil, d.partial, "exists and was not made by metalcast").WithHint("remove it, or choose another destination")
	}
	return true, nil
}

// litter reports whether a name returned by FS.List is a file that macOS makes by itself.
func litter(name string) bool { return !strings.HasSuffix(name, "/") && newdir.LitterName(name) }

// canResume reads the journal. Without a usable one there is nothing to resume; the journal of
// another conversion is refused.
func (d *Dir) canResume() (bool, error) {
	if f, _, err := d.reopen(journalName); err == nil {
		_ = f.Close()
	}
	state, last, end, err := readJournal(d.fs, d.partial)
	if err != nil || state == nil || len(last.Done) == 0 {
		return false, err
	}
	if !bytes.Equal(state, d.state) {
		return false, &Differs{d.partial, state, d.state}
	}
	done, ok := engine.PieceSetOf(len(d.plan.Pieces), last.Done)
	for _, f := range last.Found {
		ok = ok && 0 <= f.Piece && int(f.Piece) < len(d.plan.Pieces) && done.Has(f.Piece)
	}
	if !ok {
		return false, fault.New(nil, filepath.Join(d.partial, journalName), "names pieces that the conversion does not have").WithHint("--restart starts over")
	}
	d.done, d.counts, d.progress = done, last.Counts, last
	d.journal = &journal{end: end}
	return true, nil
}

// clear empties DST.partial, except for the lock.
func (d *Dir) clear() error {
	names, err := d.fs.List(d.partial)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != lockName {
			if err := d.fs.RemoveAll(filepath.Join(d.partial, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// create makes the shards and the journal.
func (d *Dir) create() error {
	grows := d.fs.Grows(d.partial)
	if grows {
		d.warn("its file system has no files with holes, such as exFAT; shards get their size as they are written, so that a full disk shows late")
	}
	for i := range d.plan.Shards {
		s := &d.plan.Shards[i]
		size := s.Size
		if grows {
			size = 0
		}
		f, err := d.fs.Create(filepath.Join(d.partial, s.Name), size)
		if err != nil {
			return d.explain(s.Name, err)
		}
		d.files = append(d.files, f)
		if _, err := f.WriteAt(s.Header[8:], 8); err != nil {
			return d.explain(s.Name, err)
		}
		d.touched[i] = true
	}
	var err error
	if d.journal, err = startJournal(d.fs, d.partial, d.state); err != nil {
		return d.explain(journalName, err)
	}
	for _, dir := range []string{d.partial, filepath.Dir(d.partial)} {
		if err := d.fs.SyncDir(dir); err != nil {
			return newdir.Explain(dir, err)
		}
	}
	return nil
}

// resume opens what an earlier run has made.
func (d *Dir) resume() error {
	for i := range d.plan.Shards {
		s := &d.plan.Shards[i]
		f, size, err := d.reopen(s.Name)
		if err != nil {
			return d.explain(s.Name, err)
		}
		d.files = append(d.files, f)
		if size != s.Size && (!d.fs.Grows(d.partial) || size > s.Size || size < d.doneTo(i)) {
			return fault.New(nil, filepath.Join(d.partial, s.Name), "is %d bytes long, the interrupted run made it of %d", size, s.Size).WithHint("--restart starts over")
		}
		// A run that stopped while it sealed its shards may have written the first bytes of some.
		if _, err := f.WriteAt(append(make([]byte, 8), s.Header[8:]...), 0); err != nil {
			return d.explain(s.Name, err)
		}
		d.touched[i] = true
	}
	j, err := resumeJournal(d.fs, d.partial, d.journal.end)
	if err != nil {
		return d.explain(journalName, err)
	}
	d.journal = j
	return nil
}

// doneTo returns how far a shard must reach at least, by what the journal says.
func (d *Dir) doneTo(shard int) (end int64) {
	for i := range d.plan.Pieces {
		p := &d.plan.Pieces[i]
		if !d.done.Has(int32(i)) {
			continue
		}
		for _, r := range p.Results(nil, 0, 0, p.Rows, p.Cols) {
			if d.plan.Tensors[r.Target].Shard == shard {
				end = max(end, r.Out+r.N)
			}
		}
	}
	return end
}

// reopen opens a file of the interrupted run. Failures of its last writes may have gone unreported.
// Those bytes are in no save point and will be written again, so they are no failure of this run;
// but they must not be written into the pages that failed, which ext4 takes for initialised on
// disk.
func (d *Dir) reopen(name string) (File, int64, error) {
	f, size, err := d.fs.Open(filepath.Join(d.partial, name))
	if err == nil {
		_ = f.Sync()
		f.Forget()
	}
	return f, size, err
}

func (d *Dir) explain(name string, err error) error {
	return newdir.Explain(filepath.Join(d.partial, name), err)
}

// Resumed returns what the resumed run had done; nothing if this is the first.
func (d *Dir) Resumed() engine.Progress { return d.progress }
