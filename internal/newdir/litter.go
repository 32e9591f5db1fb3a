package newdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Litter reports whether a file is what macOS leaves in any directory by itself: .DS_Store, after
// one look with the Finder, and ._NAME, where exFAT, SMB and USB sticks keep the attributes of
// NAME. To the person who made it, a directory with nothing else is empty.
//
// It is false for .localized, which marks the user's own Downloads or Desktop, and for "Icon\r",
// the icon that a user gave a folder: such a directory must not be replaced.
func Litter(e fs.DirEntry) bool { return e.Type().IsRegular() && LitterName(e.Name()) }

// LitterName is Litter by the name of a file alone.
func LitterName(name string) bool { return name == ".DS_Store" || strings.HasPrefix(name, "._") }

// VolumeLitter reports whether a directory is what macOS keeps at the root of every volume it
// writes to. Nothing is renamed to a volume's root, but a finished directory may be copied there.
func VolumeLitter(e fs.DirEntry) bool {
	return e.IsDir() && slices.Contains([]string{".Spotlight-V100", ".fseventsd", ".Trashes", ".TemporaryItems", ".DocumentRevisions-V100"}, e.Name())
}

// removeEmpty removes a directory that is empty except for litter.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !Litter(e) }) {
		for _, e := range entries {
			_ = os.Remove(filepath.Join(dir, e.Name())) // what stays keeps the directory
		}
	}
	return syscall.Rmdir(dir) // os.Remove would delete a file that has replaced it
}
