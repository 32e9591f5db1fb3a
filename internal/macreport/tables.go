package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/metalcast/metalcast/internal/fault"
)

// Text generated from the reports is between <!--macs KEY--> and <!--/macs-->.
var places = regexp.MustCompile(`(?s)(<!--macs ([a-z]+)-->)(.*?)(<!--/macs-->)`)

// pages lists the pages with such text and the keys in each.
var pages = map[string][]string{
	"README.md":           {"cpu", "kernels", "metal"},
	"docs/performance.md": {"table"},
}

// filed is a report in docs/macs.
type filed struct {
	name string
	report
	facts
}

// readMacs reads docs/macs, in the order of file names.
func readMacs(dir string) ([]filed, error) {
	names, err := filepath.Glob(filepath.Join(dir, "docs", "macs", "*.md"))
	if err != nil {
		return nil, err
	}
	var list []filed
	for _, path := range names {
		name := filepath.Base(path)
		if name == "README.md" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		where := filepath.Join("docs", "macs", name)
		r, err := parse(where, text)
		if err != nil {
			return nil, err
		}
		f := r.facts()
		switch {
		case !r.Mac || f.emulated:
			return nil, fault.Unsupported(where, "made on %s, want a report from a Mac with Apple silicon and its own Metal device", r.machine())
		case r.Quick:
			return nil, fault.Unsupported(where, "made by samples, want a report from \"./build.sh mac-report\" without --quick")
		case r.Modified:
			return nil, fault.Unsupported(where, "made from commit %s with changes, want one from an unchanged commit", cell(r.Commit))
		case regexp.MustCompile(`[^\w.-]`).MatchString(name):
			return nil, fault.Unsupported(where, "its name has other characters than letters, digits, \".\", \"-\" and \"_\"")
		}
		list = append(list, filed{name, *r, f})
	}
	return list, nil
}

// written returns a page updated from the reports.
func written(page string, text []byte, macs []filed) ([]byte, error) {
	// the relative path from the page to the reports
	up := strings.TrimPrefix("docs/macs/", filepath.ToSlash(filepath.Dir(page))+"/")
	var found []string
	text = places.ReplaceAllFunc(text, func(place []byte) []byte {
		m := places.FindSubmatch(place)
		key := string(m[2])
		found = append(found, key)
		return slices.Concat(m[1], []byte(content(key, up, macs)), m[4])
	})
	slices.Sort(found)
	if !slices.Equal(found, pages[page]) {
		return nil, fault.Incomplete(page, "the places %q are between <!--macs KEY--> and <!--/macs-->, want %q", found, pages[page])
	}
	return text, nil
}

// content returns the text for a key.
func content(key, up string, macs []filed) string {
	if key == "table" {
		return "\n" + table(up, macs)
	}
	column := columns[key]
	if len(macs) == 0 {
		return column.none
	}
	var said []string
	for _, m := range macs {
		said = append(said, fmt.Sprintf("%s: %s", link(m, up), column.of(m)))
	}
	return strings.Join(said, "; ")
}

// columns has the text for each key of README's column, without a report and for one.
var columns = map[string]struct {
	none string
	of   func(filed) string
}{
	"cpu": {"not yet; compiled and vetted only", testsOf},
	"kernels": {"not yet", func(m filed) string {
		switch {
		case m.elements == 0:
			return "parity did not finish"
		case m.differences > 0:
			return fmt.Sprintf("%d of %d elements differ", m.differences, m.elements)
		case !m.part("parity").OK:
			return "parity failed"
		}
		return "equal to the CPU in every bit"
	}},
	"metal": {"not yet; cross-compiled and linked only", func(m filed) string {
		switch {
		case !m.part("demo").OK:
			return "the demo failed"
		case m.demo.Device != "metal":
			return "the demo was computed by " + cell(m.demo.Device)
		}
		return "a conversion verified byte by byte; " + testsOf(m)
	}},
}

func testsOf(m filed) string {
	switch {
	case m.tests.Failed > 0:
		return fmt.Sprintf("%d tests fail, %d pass", m.tests.Failed, m.tests.Passed)
	case !m.part("test").OK:
		return "the tests did not finish"
	}
	return fmt.Sprintf("%d tests pass", m.tests.Passed)
}

func link(m filed, up string) string { return fmt.Sprintf("[%s](%s%s)", m.machine(), up, m.name) }

// The rows of bench in the table.
const (
	dequantize = "dequant F8_E4M3 128x128 BF16 -> BF16"
	quantize   = "quantize F8_E4M3 128x128 BF16 -> BF16 -> affine 4/64 as metal"
	conversion = "convert, FP8 to bfloat16"
)

// table returns the table for docs/performance.md.
func table(up string, macs []filed) string {
	if len(macs) == 0 {
		return "Not yet: no Mac's owner has sent a report. `./build.sh mac-report` makes one.\n"
	}
	var b strings.Builder
	b.WriteString("GB/s count bytes read and bytes written; in brackets the time, as a multiple of what stands beside it in `metalcast bench`: memcpy for kernels and disk, a plain copy loop for the conversion.\n\n")
	b.WriteString("| Mac | date, commit | dequantize, Metal | quantize to 4 bits, Metal | disk, write | disk, read | conversion |\n|---|---|---|---|---|---|---|\n")
	for _, m := range macs {
		fmt.Fprintf(&b, "| %s | %s, %.12s | %s | %s | %s | %s | %s |\n", link(m, up), cell(m.Date), cell(m.Commit),
			m.rate(dequantize, "metal"), m.rate(quantize, "metal"), m.rate("write", ""), m.rate("read", ""), m.rate(conversion, ""))
	}
	return b.String()
}

// writeTables updates all pages from the reports and returns those that changed.
func writeTables(dir string) (changed []string, err error) {
	macs, err := readMacs(dir)
	if err != nil {
		return nil, err
	}
	for _, page := range slices.Sorted(maps.Keys(pages)) {
		path := filepath.Join(dir, page)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		next, err := written(page, text, macs)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(text, next) {
			continue
		}
		if err := os.WriteFile(path, next, 0o644); err != nil {
			return nil, err
		}
		changed = append(changed, page)
	}
	return changed, nil
}
