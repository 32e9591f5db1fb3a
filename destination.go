package metalcast

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/metalcast/metalcast/internal/fault"
)

// resolveDestination gives dst's real path. Its parent must exist, and it must not be the source, lie inside it, or hold it.
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
		return "", fault.New(nil, filepath.Dir(dst), "no such directory").WithHint("mkdir -p %s", filepath.Dir(dst))
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
	if a, err := os.Stat(src); err == nil {
		if b, err := os.Stat(dst); err == nil && os.SameFile(a, b) {
			return "", fault.Corrupt(dst, "is the source itself").WithHint("choose a new directory; the source is never changed")
		}
	}
	if within(src, dst) {
		return "", fault.Corrupt(dst, "lies inside the source").WithHint("choose a directory outside %s", src)
	}
	return dst, nil
}

func within(outer, inner string) bool {
	rel, err := filepath.Rel(outer, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// freeSpace is what the file system of dst's parent has for this user, in bytes.
func freeSpace(dst string) (int64, error) {
	u, err := disk.Usage(filepath.Dir(dst))
	if err != nil {
		return 0, err
	}
	return int64(u.Free), nil
}
