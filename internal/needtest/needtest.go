// Package needtest skips tests that need something the machine lacks, or fails them if
// METALCAST_REQUIRE says that it must be there. It also determines how long tests may take.
package needtest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Required reports whether METALCAST_REQUIRE, a comma-separated list, contains what.
func Required(what string) bool {
	return slices.Contains(strings.Split(os.Getenv("METALCAST_REQUIRE"), ","), what)
}

// Skip ends a test that needs what: as skipped, with the reason, or as failed if it is required.
func Skip(t testing.TB, what, format string, args ...any) {
	t.Helper()
	if Required(what) {
		t.Fatalf("METALCAST_REQUIRE has "+what+": "+format, args...)
	}
	t.Skipf(format+" (needs "+what+")", args...)
}

// Long reports whether tests run all of their rounds, sizes and cases, which "build.sh test long",
// CI and the nightly run request with METALCAST_LONG. Otherwise they take samples: every kind of
// input, but not every input.
func Long() bool { return os.Getenv("METALCAST_LONG") != "" || os.Getenv("METALCAST_NIGHTLY") != "" }

// Rounds returns the number of rounds of a random test: few, or all if Long, or a quarter of few
// under -short.
func Rounds(few, all int) int {
	switch {
	case Long():
		return all
	case testing.Short():
		return (few + 3) / 4
	}
	return few
}

// Every returns the step width of a test that could try every position, such as every operation
// that may fail.
func Every(few int) int {
	if testing.Short() && !Long() {
		return few
	}
	return 1
}

// Alone skips a test in which nothing runs concurrently under -short, with which build.sh runs the
// race detector. It is for tests that take long there and whose goroutines other tests cover.
func Alone(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("nothing runs concurrently here (skipped by -short)")
	}
}
