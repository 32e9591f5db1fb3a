package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/metalcast/metalcast/internal/needtest"
)

// withoutLocks has flock answer as SMB disks on a Mac do, for this process and its life.
func withoutLocks() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FLOCK, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOTSUP)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	defer runtime.KeepAlive(&program)
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, reflect.ValueOf(&program).Pointer()); errno != 0 {
		return errno
	}
	return nil
}

// A destination without locks is written to, and the user is told, once.
func TestConvertWithoutLocks(t *testing.T) {
	if dst := os.Getenv("METALCAST_TEST_NOLOCKS"); dst != "" { // the child
		if err := withoutLocks(); err != nil {
			os.Exit(100)
		}
		os.Exit(run([]string{"convert", os.Getenv("METALCAST_TEST_SRC"), dst, "--device", "cpu"}, io.Discard, os.Stderr))
	}
	src, dst := synthetic(t, "--size", "50MB"), filepath.Join(t.TempDir(), "dst")
	child := exec.Command(os.Args[0], "-test.run", "^TestConvertWithoutLocks$")
	child.Env = append(os.Environ(), "METALCAST_TEST_NOLOCKS="+dst, "METALCAST_TEST_SRC="+src)
	var errs bytes.Buffer
	child.Stderr = &errs
	err := child.Run()
	if child.ProcessState != nil && child.ProcessState.ExitCode() == 100 {
		needtest.Skip(t, "system", "no seccomp here")
	}
	require.NoError(t, err, "%s", &errs)
	assert.Equal(t, 1, bytes.Count(errs.Bytes(), []byte("dst.partial: its file system has no locks; let no other metalcast write there meanwhile")), "%s", &errs)
	assert.FileExists(t, filepath.Join(dst, "config.json"))
}
