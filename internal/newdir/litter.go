package newdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Litter tells whether a file is what macOS leaves in any directory, unasked: .DS_Store, by one look with the Finder, and ._NAME, where exFAT, SMB and USB sticks
// keep NAME's attributes. A directory that holds nothing else is empty to who made it.
//
// Not among them are .localized, which marks a user's own Downloads or Desktop, and "Icon\r", the icon that a user gave a folder: such a directory is not to be replaced.
func Litter(e fs.DirEntry) bool { return e.Type().IsRegular() && LitterName(e.Name()) }

// LitterName is Litter by the name alone, that of a file.
func LitterName(name string) bool { return name == ".DS_Store" || strings.HasPrefix(name, "._") }

// VolumeLitter tells whether a directory is what macOS keeps at the root of every volume it writes to. Nothing is renamed to a volume's root, but what was made
// may be copied there.
func VolumeLitter(e fs.DirEntry) bool {
	return e.IsDir() && slices.Contains([]string{".Spotlight-V100", ".fseventsd", ".Trashes", ".TemporaryItems", ".DocumentRevisions-V100"}, e.Name())
}

// removeEmpty removes a directory that is empty but for litter.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !Litter(e) }) {
		for _, e := range entries {
			_ = os.Remove(filepath.Join(dir, e.Name())) // what stays keeps the directory; ._NAME goes with NAME
		}
	}
	return syscall.Rmdir(dir) // os.Remove would delete a file that took its place
}
