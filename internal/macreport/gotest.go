package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// testEvent is a line of "go test -json".
type testEvent struct {
	Action, Package, Test, ImportPath, Output string
}

// testCounts is the document about the tests.
type testCounts struct {
	Passed   int      `json:"passed"`
	Failed   int      `json:"failed"` // tests, and packages that fail without one
	Skipped  int      `json:"skipped"`
	Packages int      `json:"packages"`
	Failures []string `json:"failures,omitempty"`
}

func (c testCounts) String() string {
	s := fmt.Sprintf("%d passed, %d failed, %d skipped in %d packages", c.Passed, c.Failed, c.Skipped, c.Packages)
	if len(c.Failures) > 0 {
		s += ": " + strings.Join(c.Failures, ", ")
	}
	return s
}

// readTests counts the events that "go test -json" printed. It returns all output of failing tests
// and packages, and all lines that are not events.
func readTests(output string) (c testCounts, failures string) {
	type key struct{ pkg, test string }
	said := map[key]string{}
	failed := map[string]bool{} // packages with a failing test
	var other strings.Builder
	for line := range strings.Lines(output) {
		var e testEvent
		if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
			other.WriteString(line)
			continue
		}
		k := key{e.Package, e.Test}
		switch e.Action {
		case "output":
			said[k] += e.Output
		case "build-output":
			other.WriteString(e.Output)
		case "pass", "skip", "fail":
			switch {
			case e.Test == "":
				c.Packages++
				if e.Action == "fail" && !failed[e.Package] {
					c.Failed++
					c.Failures = append(c.Failures, e.Package)
					other.WriteString(said[k])
					for _, unfinished := range slices.SortedFunc(maps.Keys(said), func(a, b key) int { return strings.Compare(a.test, b.test) }) {
						if unfinished.pkg == e.Package && unfinished.test != "" {
							other.WriteString(said[unfinished])
						}
					}
				}
			case e.Action == "pass":
				c.Passed++
			case e.Action == "skip":
				c.Skipped++
			default:
				c.Failed++
				c.Failures = append(c.Failures, e.Package+" "+e.Test)
				failed[e.Package] = true
				other.WriteString(said[k])
			}
			delete(said, k)
		}
	}
	return c, other.String()
}
