//go:build fakemetal

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestFakeMetal runs the program on the fake device, which scripts make fail by the environment
// variable FAKE_METAL.
func TestFakeMetal(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "fakemetal"),
		// Scripts start from an empty environment; the sanitizer's suppressions go along.
		Setup: func(e *testscript.Env) error {
			e.Setenv("LSAN_OPTIONS", os.Getenv("LSAN_OPTIONS"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status, "samedir": sameDir,
		},
	})
}
