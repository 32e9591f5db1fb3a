//go:build fakemetal

package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestFakeMetal runs the program on the fake device, which scripts make fail by the environment variable FAKE_METAL.
func TestFakeMetal(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "fakemetal"),
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status, "samedir": sameDir,
		},
	})
}
