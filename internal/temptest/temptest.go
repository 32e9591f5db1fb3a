// Package temptest gives tests directories under the names that programs which resolve links report.
package temptest

import (
	"path/filepath"
	"testing"
)

// Dir is t.TempDir without symbolic links on the way to it: macOS' temporary directory lies behind one (/var is
// /private/var), and a test that compares a path with one in a message or a result must expect the resolved one.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
