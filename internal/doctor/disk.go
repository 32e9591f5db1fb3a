package doctor

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/shirou/gopsutil/v4/common"
	"github.com/shirou/gopsutil/v4/disk"
)

// diskOf returns the free space of the file system that holds dir, and its type.
func diskOf(dir string) (free uint64, fileSystem string) {
	u, err := disk.Usage(dir)
	if err != nil {
		return 0, ""
	}
	// ext2, ext3 and ext4 share a magic number; only the mount table tells them apart.
	if strings.HasPrefix(u.Fstype, "ext") {
		mine := context.WithValue(context.Background(), common.EnvKey, common.EnvMap{common.HostProcMountinfo: "/proc/self/mountinfo"})
		if table, err := disk.PartitionsWithContext(mine, true); err == nil {
			if mounted := mountOf(dir, table); strings.HasPrefix(mounted, "ext") {
				return u.Free, mounted
			}
		}
	}
	return u.Free, u.Fstype
}

// mountOf returns the type that the mount table has for dir: of the deepest mount, and of two at
// one path the later.
func mountOf(dir string, table []disk.PartitionStat) (fileSystem string) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return ""
	}
	deepest := 0
	for _, m := range table {
		below := dir == m.Mountpoint || strings.HasPrefix(dir, strings.TrimSuffix(m.Mountpoint, "/")+"/")
		if below && len(m.Mountpoint) >= deepest {
			deepest, fileSystem = len(m.Mountpoint), m.Fstype
		}
	}
	return fileSystem
}
