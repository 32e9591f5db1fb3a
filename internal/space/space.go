// Package space decides whether an output fits a disk, by the rules of each system.
package space

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/shirou/gopsutil/v4/disk"

	"github.com/metalcast/metalcast/internal/fault"
)

// Rules are how full a system allows a disk to become.
type Rules struct {
	// File systems that free more on demand than they report: only asking for the room tells.
	Purgeable []string
	Reserve   int64 // bytes that stay free, or
	Part      int64 // one in so many bytes of the disk, if that is less; 0: nothing stays free
}

// System has the rules of this system; tests set those of another.
var System = For(runtime.GOOS)

// For returns the rules of an operating system. On macOS swap files lie on the same volume, and
// programs are killed when they find no room.
func For(goos string) Rules {
	if goos == "darwin" {
		return Rules{Purgeable: []string{"apfs", "hfs"}, Reserve: 5e9, Part: 50}
	}
	return Rules{}
}

// Overcommits reports whether a full disk may free more when it is asked for room.
func (r Rules) Overcommits() bool { return len(r.Purgeable) > 0 }

// Disk is what a file system has for this user, in bytes.
type Disk struct {
	Free, Total int64
	Type        string
}

// Of returns the file system that holds dst's parent.
func Of(dst string) (Disk, error) {
	u, err := disk.Usage(filepath.Dir(dst))
	if err != nil {
		return Disk{}, err
	}
	return Disk{int64(u.Free), int64(u.Total), u.Fstype}, nil
}

// kept returns how many bytes of a disk stay free.
func (r Rules) kept(total int64) int64 {
	if r.Part == 0 {
		return 0
	}
	return min(r.Reserve, total/r.Part)
}

// refuse returns the error for what does not fit. maybe reports that only asking for the room will
// tell.
func (r Rules) refuse(dst string, need int64, d Disk) (maybe bool, err error) {
	kept := r.kept(d.Total)
	if d.Free-kept >= need {
		return false, nil
	}
	free := ""
	if kept > 0 {
		free = fmt.Sprintf(", of which %s stay free for swap files", size(kept))
	}
	e := fault.New(fault.ErrNoSpace, dst, "%s are needed, %s are free%s", size(need), size(d.Free), free)
	return slices.Contains(r.Purgeable, d.Type) && need+kept <= d.Total, e
}

// Check refuses an output of need bytes at dst that cannot fit. Where more may be freed on demand
// it warns instead; warn may be nil.
func Check(dst string, need int64, warn func(string)) error {
	d, err := Of(dst)
	if err != nil {
		return nil //nolint:nilerr // where the system does not say, writing will
	}
	maybe, err := System.refuse(dst, need, d)
	if maybe {
		if warn != nil {
			warn(err.Error() + "; macOS may free more")
		}
		return nil
	}
	return err
}

// CheckReserve refuses an output whose room on the disk is taken already, if less is left than has
// to stay free.
func CheckReserve(dst string) error {
	d, err := Of(dst)
	kept := System.kept(d.Total)
	if err != nil || d.Free >= kept {
		return nil //nolint:nilerr // the system does not say
	}
	return fault.New(fault.ErrNoSpace, dst, "%s are left free beside the output, %s stay free for swap files", size(d.Free), size(kept))
}

func size(n int64) string {
	return fmt.Sprintf("%s (%d bytes)", humanize.IBytes(uint64(max(n, 0))), n)
}
