package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/temptest"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// start starts the program in a process of its own. It is killed if it outlives the test's
// patience.
func start(t *testing.T, stdout, stderr io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	if runtime.GOOS == "windows" {
		needtest.Skip(t, "system", "no signal can be sent to a process on this system")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, args[0], args[1:]...) // metalcast is where TestMain has put it
	c.Stdout, c.Stderr = stdout, stderr
	require.NoError(t, c.Start())
	return c
}

// signalled runs a command that converts into dst, sends it a signal when it has written some data,
// and waits for its end. One that ends before is run again.
func signalled(t *testing.T, s os.Signal, dst string, args ...string) (code int, messages string) {
	t.Helper()
	t.Setenv("GOMAXPROCS", "1") // no faster than need be
	for range 20 {
		var errs bytes.Buffer
		c := start(t, nil, &errs, args...)
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		if !writing(dst, ended) {
			require.Zero(t, c.ProcessState.ExitCode(), "%s", &errs)
			require.NoError(t, os.RemoveAll(dst))
			continue
		}
		_ = c.Process.Signal(s) // which fails where it has ended
		<-ended
		return c.ProcessState.ExitCode(), errs.String()
	}
	t.Fatal("always ended before it was seen to write")
	return 0, ""
}

// writing waits until a conversion into dst has written some data, or has ended.
func writing(dst string, ended <-chan struct{}) bool {
	for !dataWritten(dst + ".partial") {
		select {
		case <-ended:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// interrupted is signalled for a command that the signal must end. On a busy machine it may come
// too late, after the last byte: then again.
func interrupted(t *testing.T, s os.Signal, dst string, args ...string) (messages string) {
	t.Helper()
	for range 20 {
		code, messages := signalled(t, s, dst, args...)
		if code != exitOK {
			require.Equal(t, exitInterrupted, code, messages)
			return messages
		}
		require.NoError(t, os.RemoveAll(dst))
	}
	t.Fatal("the signal always came too late")
	return ""
}

func synthetic(t *testing.T, args ...string) string {
	t.Helper()
	src := filepath.Join(temptest.Dir(t), "src")
	var errs bytes.Buffer
	require.Zero(t, run(append([]string{"synth", src, "--quiet"}, args...), io.Discard, &errs), "%s", &errs)
	return src
}

// An interrupt in the middle of a conversion ends it with status 130; the same command resumes it
// and writes the same bytes as one run.
func TestInterrupt(t *testing.T) {
	layers, size := "12", "60MB"
	if needtest.Long() {
		layers, size = "40", "150MB"
	}
	for _, test := range []struct {
		name         string
		synth, flags []string
	}{
		{"many small tensors", []string{"--layers", layers}, []string{"--max-memory", "100MiB"}},
		{"few large tensors", []string{"--size", size}, []string{"--max-memory", "40MiB", "--verify"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := synthetic(t, test.synth...)
			before := list(t, src)
			dst := filepath.Join(temptest.Dir(t), "dst")
			messages := interrupted(t, os.Interrupt, dst, append([]string{"metalcast", "convert", src, dst}, test.flags...)...)
			assert.Equal(t, before, list(t, src))
			assert.NoDirExists(t, dst)
			// Before the first window was written.
			if messages != "metalcast: interrupted; nothing was left behind\n" {
				assert.Equal(t, "metalcast: interrupted\nmetalcast: hint: what was done is in "+dst+".partial; the same command resumes it, --restart starts over\n", messages)
				assert.Equal(t, []string{"dst.partial"}, list(t, filepath.Dir(dst)))
			}
			whole := filepath.Join(temptest.Dir(t), "whole")
			var errs bytes.Buffer
			require.Zero(t, run(append([]string{"convert", src, dst}, test.flags...), io.Discard, &errs), "%s", &errs)
			require.Zero(t, run([]string{"convert", src, whole, "--quiet"}, io.Discard, &errs), "%s", &errs)
			require.Equal(t, list(t, whole), list(t, dst))
			for _, name := range list(t, whole) {
				a, err := os.ReadFile(filepath.Join(whole, name))
				require.NoError(t, err)
				b, err := os.ReadFile(filepath.Join(dst, name))
				require.NoError(t, err)
				assert.True(t, bytes.Equal(a, b), name)
			}
		})
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// dataWritten reports whether a shard of a directory has data. Shards are preallocated, so their
// size says nothing.
func dataWritten(dir string) bool {
	shards, _ := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	for _, name := range shards {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(io.LimitReader(f, 1<<20))
		f.Close()
		if len(bytes.Trim(b, "\x00")) > 0 {
			return true
		}
	}
	return false
}

// The second interrupt does not wait for anything. Here the program hangs, as nobody reads what it
// writes.
func TestSecondInterruptKills(t *testing.T) {
	src := synthetic(t, "--layers", "8") // of 2,048 experts
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	c := start(t, w, nil, "metalcast", "plan", src, "--json", "--layout", "per-expert")
	w.Close()
	_, err = r.Read(make([]byte, 1)) // it is at work, writing far more than a pipe holds
	require.NoError(t, err)
	ended := make(chan error)
	go func() { ended <- c.Wait() }()
	for sent := 0; ; sent++ {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			status, ok := exit.Sys().(syscall.WaitStatus)
			require.True(t, ok)
			assert.True(t, status.Signaled() && status.Signal() == syscall.SIGINT, "%v", exit)
			assert.GreaterOrEqual(t, sent, 2)
			return
		default:
			_ = c.Process.Signal(os.Interrupt)
			time.Sleep(20 * time.Millisecond) // or two may count as one
		}
	}
}

// A terminal that goes away is an interrupt, but not under nohup.
func TestHangup(t *testing.T) {
	src := synthetic(t, "--size", "60MB")
	dst := filepath.Join(temptest.Dir(t), "dst")
	interrupted(t, syscall.SIGHUP, dst, "metalcast", "convert", src, dst, "--max-memory", "40MiB", "--verify")
	assert.NoDirExists(t, dst)
	require.NoError(t, os.RemoveAll(dst+".partial"))
	code, messages := signalled(t, syscall.SIGHUP, dst, "sh", "-c", `trap "" HUP; exec metalcast convert "$1" "$2"`, "sh", src, dst)
	assert.Equal(t, exitOK, code, messages)
	assert.DirExists(t, dst)
}

func TestInterruptedBeforeReading(t *testing.T) {
	src := synthetic(t, "--layers", "1", "--experts", "2")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, args := range [][]string{{"inspect", src}, {"plan", src}, {"convert", src, "--dry-run"}, {"plan", src, "--json"}} {
		var out, errs bytes.Buffer
		u := newUI(&out, &errs)
		assert.Equal(t, exitInterrupted, execute(ctx, u, newRoot(u), args), "%v", args)
		if u.json {
			assert.JSONEq(t, `{"error": "interrupted; nothing was left behind", "exit_code": 130}`, out.String())
		} else {
			assert.Empty(t, out.String(), "%v", args)
			assert.Equal(t, "metalcast: interrupted; nothing was left behind\n", errs.String())
		}
	}
}

func TestInterruptionTellsWhatIsLeft(t *testing.T) {
	abort := errors.Join(nil, &os.PathError{Op: "unlinkat", Path: "dst.partial", Err: syscall.EACCES})
	for _, test := range []struct {
		err  error
		want string
	}{
		{context.Canceled, "interrupted; nothing was left behind"},
		{errors.Join(context.Canceled, nil), "interrupted; nothing was left behind"},
		{fault.In("shard", context.Canceled), "interrupted; nothing was left behind"},
		{&fault.Error{Kind: fault.ErrCorrupt, Where: "shard", Err: context.Canceled}, "interrupted; nothing was left behind"},
		{errors.Join(fault.In("shard", context.Canceled), abort), "interrupted; unlinkat dst.partial: permission denied"},
	} {
		var errs bytes.Buffer
		newUI(io.Discard, &errs).report(test.err, exitCode(test.err))
		assert.Equal(t, "metalcast: "+test.want+"\n", errs.String())
		assert.Equal(t, exitInterrupted, exitCode(test.err))
	}
}
