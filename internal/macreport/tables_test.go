package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// README.md and docs/performance.md say what the reports in docs/macs say.
func TestTablesAreWhatTheReportsSay(t *testing.T) {
	root := filepath.Join("..", "..")
	macs, err := readMacs(root)
	require.NoError(t, err)
	for page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		want, err := written(page, text, macs)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(text), `%s: run "./build.sh macs"`, page)
	}
}

// The line for Macs in the documentation is the one that the workflow runs there.
func TestWorkflowRunsTheLineForAMac(t *testing.T) {
	root := filepath.Join("..", "..")
	line := regexp.MustCompile(`(?m)^    (METALCAST_REQUIRE=metal .*)$`)
	workflow := page(t, root, ".github/workflows/ci.yml")
	var lines []string
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		for _, m := range line.FindAllStringSubmatch(page(t, root, name), -1) {
			lines = append(lines, m[1])
			assert.Contains(t, workflow, "\n        run: "+m[1]+"\n")
		}
	}
	assert.NotEmpty(t, lines, "README.md has no line for a Mac")
}

// tree makes a directory with the pages, and the reports in docs/macs.
func tree(t *testing.T, reports map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"README.md":           "| | on a Mac |\n|---|---|\n| cpu | <!--macs cpu-->?<!--/macs--> |\n| kernels | <!--macs kernels--><!--/macs--> |\n| metal | <!--macs metal-->old<!--/macs--> |\n",
		"docs/performance.md": "before\n\n<!--macs table-->\nold\n<!--/macs-->\n\nafter\n",
		"docs/macs/README.md": "no report",
	}
	for name, text := range reports {
		files["docs/macs/"+name] = text
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

func page(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(text)
}

// macReport is a report in the format that docs/macs/README.md describes.
func macReport(head, chip, device, parity, test, demo string) string {
	return fmt.Sprintf("# metalcast\n\n```json\n{%s,\n\"parts\": [{\"name\": \"doctor\", \"ok\": true}, {\"name\": \"parity\", \"ok\": true}, {\"name\": \"demo\", \"ok\": true},"+
		" {\"name\": \"bench\", \"ok\": true}, {\"name\": \"test\", \"ok\": true}]}\n```\n\n## doctor\n\n```json\n{\"platform\": \"darwin 26.1\", \"processor\": %q, \"metal\": {\"name\": %q}}\n```\n"+
		"\n## parity\n\n```json\n%s\n```\n\n## demo\n\n```json\n%s\n```\n\n## bench\n\n```json\n"+
		`{"rows": [{"name": "dequant F8_E4M3 128x128 BF16 -> BF16", "implementation": "cpu, 4 workers, NEON", "gb_per_second": 1, "ratio": 9},`+
		`{"name": "dequant F8_E4M3 128x128 BF16 -> BF16", "implementation": "metal", "gb_per_second": 401.25, "ratio": 1.254},`+
		`{"name": "convert, FP8 to bfloat16", "implementation": "end to end", "gb_per_second": 9.75, "ratio": 0.5}]}`+
		"\n```\n\n## test\n\n```json\n%s\n```\n\nAttach this file\n", head, chip, device, parity, demo, test)
}

const (
	goodHead   = `"mac_report": 1, "date": "2026-12-24", "commit": "0123456789abcdef0123", "mac": true`
	goodParity = `{"elements": 1000, "differences": 0}`
	goodTest   = `{"passed": 1800, "failed": 0}`
	goodDemo   = `{"verified": true, "seconds": 0.5, "device": "metal"}`
)

func TestTablesOfReports(t *testing.T) {
	dir := tree(t, map[string]string{
		"a.md": macReport(goodHead, "Apple M4 Max", "Apple M4 Max", goodParity, goodTest, goodDemo),
		"b.md": strings.ReplaceAll(macReport(goodHead, "Apple M1 (Virtual)", "Apple Paravirtual device", `{"elements": 1000, "differences": 12}`, `{"passed": 10, "failed": 2}`,
			// as it arrives from a web form
			`{"verified": true, "seconds": 0.5, "device": "cpu"}`), "\n", "\r\n"),
	})
	changed, err := writeTables(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{"README.md", "docs/performance.md"}, changed)
	const m4, vm = "[Apple M4 Max, macOS 26.1](docs/macs/a.md)", "[Apple M1 (Virtual), a virtual machine, macOS 26.1](docs/macs/b.md)"
	assert.Equal(t, "| | on a Mac |\n|---|---|\n"+
		"| cpu | <!--macs cpu-->"+m4+": 1800 tests pass; "+vm+": 2 tests fail, 10 pass<!--/macs--> |\n"+
		"| kernels | <!--macs kernels-->"+m4+": equal to the CPU in every bit; "+vm+": 12 of 1000 elements differ<!--/macs--> |\n"+
		"| metal | <!--macs metal-->"+m4+": a conversion verified byte by byte; 1800 tests pass; "+vm+": the demo was computed by cpu<!--/macs--> |\n", page(t, dir, "README.md"))
	performance := page(t, dir, "docs/performance.md")
	assert.Contains(t, performance, "| [Apple M4 Max, macOS 26.1](macs/a.md) | 2026-12-24, 0123456789ab | 401.2 (1.25) | - | - | - | 9.8 (0.50) |\n")
	assert.True(t, strings.HasPrefix(performance, "before\n\n<!--macs table-->\n") && strings.HasSuffix(performance, "|\n<!--/macs-->\n\nafter\n"), performance)

	changed, err = writeTables(dir)
	require.NoError(t, err)
	assert.Empty(t, changed, "a second time changes nothing")

	require.NoError(t, os.Remove(filepath.Join(dir, "docs", "macs", "a.md")))
	require.NoError(t, os.Remove(filepath.Join(dir, "docs", "macs", "b.md")))
	_, err = writeTables(dir)
	require.NoError(t, err)
	assert.Equal(t, 3, strings.Count(page(t, dir, "README.md"), "-->not yet"))
	assert.Contains(t, page(t, dir, "docs/performance.md"), "Not yet: no Mac's owner has sent a report.")
}

// A part of a report that did not finish is not a success.
func TestTablesOfFailures(t *testing.T) {
	text := macReport(goodHead, "Apple M2", "Apple M2", goodParity, `{"passed": 5}`, goodDemo)
	text = strings.ReplaceAll(text, `"ok": true`, `"ok": false`)
	dir := tree(t, map[string]string{"a.md": text})
	_, err := writeTables(dir)
	require.NoError(t, err)
	readme := page(t, dir, "README.md")
	for _, want := range []string{": the tests did not finish<!", ": parity failed<!", ": the demo failed<!"} {
		assert.Contains(t, readme, want)
	}
	assert.NotContains(t, readme, "tests pass")
}

func TestTablesRefuse(t *testing.T) {
	good := func(head string) string {
		return macReport(head, "Apple M2", "Apple M2", goodParity, goodTest, goodDemo)
	}
	for name, c := range map[string]struct{ file, text, message string }{
		"no Mac":         {"a.md", good(strings.Replace(goodHead, `"mac": true`, `"mac": false`, 1)), "docs/macs/a.md: made on Apple M2, macOS 26.1, want a report from a Mac with Apple silicon and its own Metal device"},
		"emulated":       {"a.md", strings.Replace(good(goodHead), `{"elements"`, `{"emulated": true, "elements"`, 1), "want a report from a Mac"},
		"samples":        {"a.md", good(goodHead + `, "quick": true`), "made by samples"},
		"changed":        {"a.md", good(goodHead + `, "modified": true`), "made from commit 0123456789abcdef0123 with changes"},
		"another form":   {"a.md", good(strings.Replace(goodHead, `"mac_report": 1`, `"mac_report": 2`, 1)), "docs/macs/a.md: a report of form 2, want 1"},
		"something else": {"a.md", "# My Mac\n\nIt works.\n", "docs/macs/a.md: contains no block of mac-report's"},
		"other JSON":     {"a.md", "```json\n{\"x\": 1}\n```\n", "contains no block of mac-report's"},
		"cut":            {"a.md", strings.TrimSuffix(good(goodHead), "\n```\n\nAttach this file\n"), "docs/macs/a.md: ends inside a block"},
		"name":           {"a](x).md", good(goodHead), "its name has other characters"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := writeTables(tree(t, map[string]string{c.file: c.text}))
			require.Error(t, err)
			assert.Contains(t, filepath.ToSlash(err.Error()), c.message)
		})
	}
}

// A key that a page has lost, or has twice, is an error.
func TestTablesMissAPlace(t *testing.T) {
	for _, text := range []string{"nothing", "<!--macs cpu--><!--/macs--><!--macs kernels--><!--/macs-->", strings.Repeat("<!--macs cpu--><!--/macs--><!--macs kernels--><!--/macs--><!--macs metal--><!--/macs-->", 2)} {
		_, err := written("README.md", []byte(text), nil)
		assert.ErrorContains(t, err, "README.md: the places")
	}
}

// Reports are written by others: their text cannot leave its cell.
func TestTablesOfAHostileReport(t *testing.T) {
	evil := "M4 | x <!--/macs--> [a](http://b) <img src=x> `c`\n## d " + strings.Repeat("e", 5000)
	head := strings.Replace(goodHead, "2026-12-24", "| x |", 1)
	dir := tree(t, map[string]string{"a.md": macReport(head, evil, "Apple M4", goodParity, goodTest, `{"verified": true, "device": "| y <b>"}`)})
	_, err := writeTables(dir)
	require.NoError(t, err)
	readme := page(t, dir, "README.md")
	assert.Equal(t, 5, strings.Count(readme, "\n"))
	assert.Equal(t, 5*3, strings.Count(readme, "|"))
	for _, forbidden := range []string{"<img", "<b>", "](http", "`", "\n## "} {
		assert.NotContains(t, readme, forbidden)
	}
	assert.Less(t, len(readme), 2500)
	assert.Equal(t, 3, strings.Count(readme, "<!--/macs-->"))
}

// parse reads what markdown writes, whatever it contains.
func TestReportRoundTrip(t *testing.T) {
	r := report{Format: format, Date: "2026-12-24", Commit: "abc", Mac: true, Parts: []part{
		{Name: "demo", Summary: "a | b", Output: "```json\n{\"mac_report\": 9}\n```\n## test\n````\n# x"},
		{Name: "test", OK: true, Seconds: 1.5, Documents: nil},
	}}
	text, err := r.markdown()
	require.NoError(t, err)
	got, err := parse("x", text)
	require.NoError(t, err)
	assert.Equal(t, &r, got)
}
