package doctor

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/shirou/gopsutil/v4/common"
	"github.com/shirou/gopsutil/v4/disk"
)

// diskOf is what is free where dir lies, and the type of its file system.
func diskOf(dir string) (free uint64, fileSystem string) {
	u, err := disk.Usage(dir)
	if err != nil {
		return 0, ""
	}
	if strings.HasPrefix(u.Fstype, "ext") { // one magic number for ext2, ext3 and ext4, which only the mount table tells apart
		mine := context.WithValue(context.Background(), common.EnvKey, common.EnvMap{common.HostProcMountinfo: "/proc/self/mountinfo"})
		if table, err := disk.PartitionsWithContext(mine, true); err == nil {
			if mounted := mountOf(dir, table); strings.HasPrefix(mounted, "ext") {
				return u.Free, mounted
			}
		}
	}
	return u.Free, u.Fstype
}

// mountOf is the type of the file system that the mount table has for dir: of the deepest mount, and of two in one place the later.
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
