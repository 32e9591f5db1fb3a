package metalcast

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/newdir"
)

// resolveDestination returns dst's real path. Its parent must exist, and neither it nor DST.partial
// may be the source or lie inside it.
func resolveDestination(src, dst string) (string, error) {
	if dst == "" {
		return "", fault.New(ErrUsage, "", "no destination")
	}
	dst, err := filepath.Abs(dst)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dst))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(nil, filepath.Dir(dst), "no such directory").WithHint("mkdir -p %q", filepath.Dir(dst))
	} else if err != nil {
		return "", err
	}
	dst = filepath.Join(parent, filepath.Base(dst))
	if real, err := filepath.EvalSymlinks(dst); err == nil {
		dst = real
	}
	src, err = filepath.EvalSymlinks(src)
	if err == nil {
		src, err = filepath.Abs(src)
	}
	if err != nil {
		return "", err
	}
	source, err := os.Stat(src)
	if err != nil {
		return "", err
	}
	for _, path := range []string{dst, newdir.Partial(dst)} {
		if st, err := os.Stat(path); err == nil && os.SameFile(source, st) {
			return "", fault.Corrupt(path, "is the source itself").WithHint("choose another destination; the source is never changed")
		}
	}
	if newdir.Inside(source, filepath.Dir(dst)) {
		return "", fault.Corrupt(dst, "lies inside the source").WithHint("choose a directory outside %s", src)
	}
	return dst, nil
}
