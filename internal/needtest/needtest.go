// Package needtest skips tests for what a machine lacks, and fails them where METALCAST_REQUIRE says that it has it. It also
// says how long tests may take.
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

// Long tells whether tests are to run all of their rounds, sizes and cases, which "build.sh test long", CI and the nightly run
// ask for by METALCAST_LONG. Without it they take samples: every kind of input, but not each.
func Long() bool { return os.Getenv("METALCAST_LONG") != "" || os.Getenv("METALCAST_NIGHTLY") != "" }

// Rounds is the number of rounds of a random test: few, or all where Long, or a quarter of few under -short.
func Rounds(few, all int) int {
	switch {
	case Long():
		return all
	case testing.Short():
		return (few + 3) / 4
	}
	return few
}

// Every is how many steps a test takes at once that could try each place, an operation that fails, say: few under -short.
func Every(few int) int {
	if testing.Short() && !Long() {
		return few
	}
	return 1
}

// Alone skips a test in which nothing runs side by side under -short, with which build.sh runs the race detector: it is for
// tests that take long there and whose goroutines others have as well.
func Alone(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("nothing of its own runs side by side here (skipped by -short)")
	}
}
