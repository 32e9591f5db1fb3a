// Package temptest provides tests with directories whose names contain no symbolic links.
package temptest

import (
	"path/filepath"
	"testing"
)

// Dir returns t.TempDir with symbolic links resolved: macOS's temporary directory is behind one
// (/var is /private/var), and a test that compares a path with one in a message or a result must
// expect the resolved one.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
