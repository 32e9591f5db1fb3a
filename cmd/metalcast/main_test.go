package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/metal"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"metalcast": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the program as a person does. Scripts are named by what they try.
func TestScripts(t *testing.T) {
	needtest.Alone(t) // whole conversions run side by side where they are interrupted and killed
	p := testscript.Params{
		Dir: "testdata",
		Condition: func(name string) (bool, error) {
			switch name {
			case "metal": // is there a Metal device
				_, err := metal.Describe()
				return err == nil, nil
			case "long":
				return needtest.Long(), nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Setup: func(e *testscript.Env) error { // nothing of the machine's hub cache
			e.Setenv("HF_HUB_CACHE", filepath.Join(e.WorkDir, "hub"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":   status,
			"samedir":  sameDir,
			"truncate": truncate,
			"poke":     poke,
			"lastbyte": lastByte,
		},
	}
	testscript.Run(t, p)
}

// status N command...: the command ends with exit status N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		var code interface{ ExitCode() int }
		if e, ok := err.(interface{ ExitCode() int }); ok { //nolint:errorlint // as os/exec gives it
			code = e
			got = fmt.Sprint(code.ExitCode())
		} else {
			ts.Fatalf("%v", err)
		}
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// samedir A B: two directories hold the same files with the same bytes.
func sameDir(ts *testscript.TestScript, neg bool, args []string) {
	a, b := digest(ts, args[0]), digest(ts, args[1])
	if (a == b) == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], a == b)
	}
}

func digest(ts *testscript.TestScript, dir string) string {
	h := sha256.New()
	root := ts.MkAbs(dir)
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		fmt.Fprintf(h, "%s %d\n", rel, len(b))
		h.Write(b)
		return err
	}))
	return hex.EncodeToString(h.Sum(nil))
}

// truncate FILE N: N bytes are cut off the end.
func truncate(ts *testscript.TestScript, _ bool, args []string) {
	var n int64
	_, err := fmt.Sscan(args[1], &n)
	ts.Check(err)
	path := ts.MkAbs(args[0])
	st, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, st.Size()-n))
}

// lastByte FILE HEX: the file ends with that byte now.
func lastByte(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	last, err := hex.DecodeString(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(path, append(b[:len(b)-1], last[0]), 0o644))
}

// poke FILE FROM TO: the first FROM in the file becomes TO, of the same length.
func poke(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if len(args[1]) != len(args[2]) || !bytes.Contains(b, []byte(args[1])) {
		ts.Fatalf("cannot replace %q by %q", args[1], args[2])
	}
	ts.Check(os.WriteFile(path, bytes.Replace(b, []byte(args[1]), []byte(args[2]), 1), 0o644))
}
