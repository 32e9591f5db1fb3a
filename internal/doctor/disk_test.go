package doctor

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/shirou/gopsutil/v4/disk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/temptest"
)

// The three that share a magic number are told apart, below a mount and behind a link too.
func TestDiskOfRealFileSystems(t *testing.T) {
	system := func(line string) {
		if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
			needtest.Skip(t, "loop", "%s: %s", line, bytes.TrimSpace(out))
		}
	}
	for _, kind := range []string{"ext2", "ext3", "ext4"} {
		dir := filepath.Join(temptest.Dir(t), "a disk")
		require.NoError(t, os.Mkdir(dir, 0o755))
		image := dir + ".image"
		t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
		system("truncate -s 8M '" + image + "' && mkfs." + kind + " -q '" + image + "' && mount -t " + kind + " -o loop '" + image + "' '" + dir + "'")
		require.NoError(t, os.Mkdir(filepath.Join(dir, "below"), 0o755))
		link := dir + " link"
		require.NoError(t, os.Symlink(filepath.Join(dir, "below"), link))
		for _, where := range []string{dir, filepath.Join(dir, "below"), link} {
			free, fileSystem := diskOf(where)
			assert.Equal(t, kind, fileSystem, where)
			assert.Less(t, free, uint64(8<<20))
		}
	}
}

func TestMountOf(t *testing.T) {
	dir := temptest.Dir(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "models"), 0o755))
	in := func(name string) string { return filepath.Join(dir, name) }
	table := []disk.PartitionStat{
		{Mountpoint: "/", Fstype: "ext3"}, {Mountpoint: dir, Fstype: "ext2"}, {Mountpoint: dir, Fstype: "ext4"}, {Mountpoint: in("mod"), Fstype: "xfs"},
		{Mountpoint: in("models"), Fstype: "btrfs"}, {Mountpoint: "/proc", Fstype: "proc"},
	}
	assert.Equal(t, "ext3", mountOf("/", table))
	assert.Equal(t, "ext4", mountOf(dir, table), "what was mounted last lies on top")
	assert.Equal(t, "btrfs", mountOf(in("models"), table))
	t.Chdir(in("models"))
	assert.Equal(t, "btrfs", mountOf(".", table))
	assert.Empty(t, mountOf(in("nothing"), table))
	assert.Empty(t, mountOf(dir, nil))
}
