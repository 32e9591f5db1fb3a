package metalcast

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/plan"
)

// spaceRules are what differs between systems in how full a disk may be.
type spaceRules struct {
	purgeable []string // file systems whose free space does not count what the system would remove to make room: only asking for the room tells
	reserve   int64    // bytes that stay free, or
	part      int64    // of the disk, one in so many, where that is less; 0: nothing stays free
}

// rules are this system's; tests have another's. On macOS swap files lie on the same volume, and programs are killed when they find no room.
var rules = rulesOf(runtime.GOOS)

func rulesOf(goos string) spaceRules {
	if goos == "darwin" {
		return spaceRules{purgeable: []string{"apfs", "hfs"}, reserve: 5e9, part: 50}
	}
	return spaceRules{}
}

// space is what a file system has for this user, in bytes.
type space struct {
	free, total int64
	fstype      string
}

// spaceAt is that of the file system which holds dst's parent.
func spaceAt(dst string) (space, error) {
	u, err := disk.Usage(filepath.Dir(dst))
	if err != nil {
		return space{}, err
	}
	return space{int64(u.Free), int64(u.Total), u.Fstype}, nil
}

// kept is what stays free of a file system.
func (r spaceRules) kept(total int64) int64 {
	if r.part == 0 {
		return 0
	}
	return min(r.reserve, total/r.part)
}

// refuse is the error of what cannot fit. maybe says that it does not seem to, and that only asking for the room tells.
func (r spaceRules) refuse(dst string, need int64, s space) (maybe bool, err error) {
	kept := r.kept(s.total)
	if s.free-kept >= need {
		return false, nil
	}
	e := fault.New(ErrNoSpace, dst, "%s are needed, %s are free%s", size(need), size(s.free), besides(kept))
	return slices.Contains(r.purgeable, s.fstype) && need+kept <= s.total, e
}

func besides(kept int64) string {
	if kept == 0 {
		return ""
	}
	return fmt.Sprintf(", of which %s stay free for swap files", size(kept))
}

// checkSpace refuses what cannot fit before anything is written.
func checkSpace(p *plan.Plan, dst string, o Options) error {
	s, err := spaceAt(dst)
	if err != nil || o.IgnoreSpace {
		return nil //nolint:nilerr // where the system does not tell, preallocation will
	}
	maybe, err := rules.refuse(dst, p.DiskBytes(), s)
	switch {
	case err == nil:
		return nil
	case maybe:
		if o.Warn != nil {
			o.Warn(err.Error() + "; macOS may free more")
		}
		return nil
	}
	return WithHint(err, "free some space, choose another disk, or --ignore-space if more can be freed on demand")
}

// checkReserve refuses an output that has its room on the disk and leaves less than what stays free.
func checkReserve(dst string, o Options) error {
	s, err := spaceAt(dst)
	kept := rules.kept(s.total)
	if err != nil || o.IgnoreSpace || s.free >= kept {
		return nil //nolint:nilerr // the system does not tell
	}
	return fault.New(ErrNoSpace, dst, "%s are left free beside the output, %s stay free for swap files", size(s.free), size(kept)).WithHint(
		"free some space, choose another disk, or --ignore-space")
}

// roomFor refuses a directory whose disk has less than need free, where the system tells; warn is told where it may have more.
func roomFor(dir string, need int64, warn func(string)) error {
	s, err := spaceAt(filepath.Join(dir, "x"))
	if err != nil {
		return nil //nolint:nilerr // writing will tell
	}
	maybe, err := rules.refuse(dir, need, s)
	if maybe {
		if warn != nil {
			warn(err.Error() + "; macOS may free more")
		}
		return nil
	}
	if err != nil {
		return WithHint(err, benchHint)
	}
	return nil
}

func size(n int64) string { return fmt.Sprintf("%s (%d bytes)", ibytes(n), n) }
