// Package needtest skips tests for what a machine lacks, and fails them where METALCAST_REQUIRE says that it has it.
package needtest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Required tells whether METALCAST_REQUIRE, names with commas between them, lists what.
func Required(what string) bool {
	return slices.Contains(strings.Split(os.Getenv("METALCAST_REQUIRE"), ","), what)
}

// Skip ends a test that needs what: skipped with the reason, or failed where it is required.
func Skip(t testing.TB, what, format string, args ...any) {
	t.Helper()
	if Required(what) {
		t.Fatalf("METALCAST_REQUIRE has "+what+": "+format, args...)
	}
	t.Skipf(format+" (needs "+what+")", args...)
}
