package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
)

// kills is how many times a conversion is killed: METALCAST_KILLS, or 500 at night, or a few.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("METALCAST_KILLS"))
	switch {
	case err == nil:
	case os.Getenv("METALCAST_NIGHTLY") != "":
		n = 500
	case needtest.Long():
		return 12
	default:
		return 6
	}
	t.Logf("METALCAST_KILLS=%d", n)
	return n
}

// A conversion is killed at random moments, again and again, and started again by the same command:
// DST is never there before it is whole, nothing in DST.partial is taken for a model, and what
// comes out are the bytes of a run that nobody killed.
func TestKill(t *testing.T) {
	src := synthetic(t, "--size", "50MB")
	whole := filepath.Join(t.TempDir(), "whole")
	var errs bytes.Buffer
	require.Zero(t, run([]string{"convert", src, whole, "--quiet", "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
	began := time.Now()
	require.Zero(t, run([]string{"convert", src, whole + "2", "--quiet", "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
	took := time.Since(began)

	size := regexp.MustCompile(`(?m)^metalcast: .*: (\d+ tensors in \d+ shards?, .*)$`)
	errs.Reset()
	require.Zero(t, run([]string{"convert", src, whole + "3", "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
	report := size.FindStringSubmatch(errs.String())
	require.Len(t, report, 2, "%s", &errs)

	rng := rand.New(rand.NewPCG(uint64(began.UnixNano()), 1))
	killed, resumed, finished := 0, 0, 0
	for most := kills(t); killed < most || resumed == 0 && killed < 10*most; finished++ {
		dst := filepath.Join(t.TempDir(), "dst")
		for {
			var messages bytes.Buffer
			c := start(t, nil, &messages, "metalcast", "convert", src, dst, "--max-memory", "40MiB", "--checkpoint-every", "2MB", "--device", "cpu")
			ended := make(chan struct{})
			go func() { _ = c.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(time.Duration(rng.Int64N(int64(2 * took)))):
				_ = c.Process.Kill()
				<-ended
			}
			if bytes.Contains(messages.Bytes(), []byte("had done a part")) {
				resumed++
			}
			if c.ProcessState.ExitCode() == 0 {
				require.Contains(t, messages.String(), report[1], "whatever this run's part was")
				break
			}
			require.Equal(t, -1, c.ProcessState.ExitCode(), "ended by itself: %s", &messages)
			if killed++; killed%50 == 0 {
				t.Logf("%d kills, %d conversions ended whole, %d of them after a kill", killed, finished, resumed)
			}
			if _, err := os.Stat(dst); err == nil { // killed between the rename and tidying up
				require.Zero(t, run([]string{"verify", src, dst, "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
				os.Remove(filepath.Join(dst, "metalcast.lock"))
				os.Remove(filepath.Join(dst, "metalcast.journal"))
				break
			}
			shards, _ := filepath.Glob(filepath.Join(dst+".partial", "*.safetensors"))
			for _, name := range shards {
				looksWhole(t, name, filepath.Join(whole, filepath.Base(name)))
			}
		}
		require.Equal(t, list(t, whole), list(t, dst))
		for _, name := range list(t, whole) {
			same(t, filepath.Join(whole, name), filepath.Join(dst, name))
		}
		require.NoError(t, os.RemoveAll(dst))
	}
	t.Logf("%d kills, %d conversions ended whole, %d of them after a kill", killed, finished, resumed)
	assert.Positive(t, resumed)
}

// looksWhole demands that a shard of DST.partial that begins like one is one.
func looksWhole(t *testing.T, path, whole string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	head := make([]byte, 8)
	if _, err := f.ReadAt(head, 0); err == nil && !bytes.Equal(head, make([]byte, 8)) {
		same(t, whole, path)
	}
}

func same(t *testing.T, want, got string) {
	t.Helper()
	a, err := os.ReadFile(want)
	require.NoError(t, err)
	b, err := os.ReadFile(got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b), got)
}

// On a disk that is too small a conversion says so; with more room the same command resumes it.
// Without room for the shards nothing is begun.
func TestSmallDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=70m", "tmpfs", dir).CombinedOutput(); err != nil {
		needtest.Skip(t, "mount", "no small disk can be mounted here: %s", bytes.TrimSpace(out))
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	src := synthetic(t, "--size", "50MB")
	dst := filepath.Join(dir, "dst")
	var errs bytes.Buffer
	require.Equal(t, exitNoSpace, run([]string{"convert", src, dst, "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
	assert.Contains(t, errs.String(), "are needed")
	errs.Reset()
	require.Equal(t, exitNoSpace, run([]string{"convert", src, dst, "--device", "cpu", "--ignore-space"}, io.Discard, &errs), "%s", &errs)
	assert.Contains(t, errs.String(), "no space left on device")
	assert.Empty(t, list(t, dir), "nothing is left")

	// The disk is full after the shards have their room.
	require.NoError(t, exec.Command("mount", "-o", "remount,size=130m", dir).Run())
	errs.Reset()
	for tries := 0; ; tries++ { // until the interrupt comes when something is done
		require.Less(t, tries, 20)
		interrupted(t, os.Interrupt, dst, "metalcast", "convert", src, dst, "--max-memory", "40MiB", "--checkpoint-every", "2MB", "--device", "cpu")
		if _, err := os.Stat(dst + ".partial"); err == nil {
			break
		}
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	require.NoError(t, err)
	_, _ = io.Copy(filler, zeros{})
	require.NoError(t, filler.Close())
	require.Equal(t, exitNoSpace, run([]string{"convert", src, dst, "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
	assert.Contains(t, errs.String(), "no space left on device")
	assert.Contains(t, errs.String(), "the same command resumes it")
	require.NoError(t, os.Remove(filepath.Join(dir, "filler")))
	errs.Reset()
	require.Zero(t, run([]string{"convert", src, dst, "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
	assert.Contains(t, errs.String(), "had done a part")
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A disk that cannot hold what it has promised, a file in a memory that fills up, says so late,
// once, and of writes that seemed to succeed. With more room the same command ends with the right
// bytes, on the disk itself.
func TestDiskThatBreaksItsPromise(t *testing.T) {
	thin, dir := t.TempDir(), t.TempDir()
	image := filepath.Join(thin, "image")
	system := func(line string) {
		if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
			needtest.Skip(t, "loop", "%s: %s", line, bytes.TrimSpace(out))
		}
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir, thin).Run() })
	system("mount -t tmpfs -o size=60m tmpfs " + thin)
	system("truncate -s 1G " + image + " && mkfs.ext4 -q -E nodiscard -O ^has_journal " + image + " && mount -o loop " + image + " " + dir)
	src, dst := synthetic(t, "--size", "50MB"), filepath.Join(dir, "dst")
	var errs bytes.Buffer
	command := []string{"convert", src, dst, "--quiet", "--device", "cpu", "--checkpoint-every", "5MiB", "--max-memory", "31MiB"}
	require.Equal(t, exitNoSpace, run(command, io.Discard, &errs), "%s", &errs)
	assert.Contains(t, errs.String(), "no space left on device")
	assert.Contains(t, errs.String(), "the same command resumes it")
	system("mount -o remount,size=600m " + thin)
	errs.Reset()
	require.Zero(t, run(command, io.Discard, &errs), "%s", &errs)
	system("umount " + dir + " && mount -o loop " + image + " " + dir)
	require.Zero(t, run([]string{"verify", src, dst, "--device", "cpu"}, io.Discard, &errs), "%s", &errs)
}
