package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/metalcast/metalcast/internal/fault"
)

// format is the version of the file's format.
const format = 1

// lastLine is the last line of a report.
const lastLine = "Attach this file to an issue, as it is: https://github.com/metalcast/metalcast/issues/new?template=mac-report.yml"

// report is the content of the file.
type report struct {
	Format   int    `json:"mac_report"`
	Date     string `json:"date"`   // "2026-12-01", UTC
	Commit   string `json:"commit"` // or "unknown", in a tree without git
	Modified bool   `json:"modified"`
	Mac      bool   `json:"mac"`   // a Mac with Apple silicon made it
	Quick    bool   `json:"quick"` // made by samples
	Parts    []part `json:"parts"`
}

// part is one of the things that were tried.
type part struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	Summary string  `json:"summary"`
	// what it printed as JSON, or what was derived from its output
	Documents []json.RawMessage `json:"-"`
	Output    string            `json:"-"` // the rest of its output, if it failed
}

// document reads the part's first document into value and reports whether there is one.
func (r *report) document(name string, value any) bool {
	for _, p := range r.Parts {
		if p.Name == name && len(p.Documents) > 0 {
			return json.Unmarshal(p.Documents[0], value) == nil
		}
	}
	return false
}

func (r *report) part(name string) part {
	for _, p := range r.Parts {
		if p.Name == name {
			return p
		}
	}
	return part{Name: name, Summary: "not run"}
}

// markdown returns the file: text for people, with fenced blocks for parse.
func (r *report) markdown() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# metalcast on %s", r.machine())
	if !r.Mac {
		b.WriteString(": this is no Mac with Apple silicon")
	}
	fmt.Fprintf(&b, "\n\n%s, commit %s", r.Date, r.Commit)
	if r.Modified {
		b.WriteString(", with changes")
	}
	if r.Quick {
		b.WriteString(", by samples (--quick)")
	}
	b.WriteString("\n\n| part | | seconds | |\n|---|---|---|---|\n")
	for _, p := range r.Parts {
		outcome := "FAILED"
		if p.OK {
			outcome = "ok"
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f | %s |\n", p.Name, outcome, p.Seconds, cell(p.Summary))
	}
	head, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	fenced(&b, "json", string(head))
	for _, p := range r.Parts {
		if len(p.Documents) == 0 && p.Output == "" {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", p.Name)
		for _, d := range p.Documents {
			fenced(&b, "json", string(d))
		}
		if p.Output != "" {
			fenced(&b, "text", p.Output)
		}
	}
	b.WriteString("\n" + lastLine + "\n")
	return b.Bytes(), nil
}

// fenced writes text as a block whose fence is longer than any inside it.
func fenced(b *bytes.Buffer, kind, text string) {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	fmt.Fprintf(b, "%s%s\n%s\n%s\n", fence, kind, strings.TrimRight(text, "\n"), fence)
}

// parse reads what markdown wrote, also with other line endings.
func parse(name string, file []byte) (*report, error) {
	var r *report
	var fence, kind, section string
	var block []string
	for line := range strings.Lines(string(file)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			kind = strings.TrimLeft(line, "`")
			fence, block = strings.TrimSuffix(line, kind), nil
		case fence == "":
			if s, ok := strings.CutPrefix(line, "## "); ok {
				section = s
			}
		case line != fence:
			block = append(block, line)
		default:
			fence = ""
			text := strings.Join(block, "\n")
			switch {
			case kind == "json" && r == nil:
				r = &report{}
				if err := json.Unmarshal([]byte(text), r); err != nil {
					return nil, fault.Corrupt(name, "its first block is not what mac-report writes: %v", err)
				}
			case r != nil:
				r.add(section, kind, text)
			}
		}
	}
	switch {
	case r == nil || r.Format == 0:
		return nil, fault.Corrupt(name, "contains no block of mac-report's").WithHint("the file that \"./build.sh mac-report\" wrote, unchanged")
	case r.Format != format:
		return nil, fault.Unsupported(name, "a report of form %d, want %d", r.Format, format)
	case fence != "":
		return nil, fault.Incomplete(name, "ends inside a block").WithHint("the whole file that \"./build.sh mac-report\" wrote")
	}
	return r, nil
}

func (r *report) add(section, kind, text string) {
	for i := range r.Parts {
		switch {
		case r.Parts[i].Name != section:
		case kind == "json":
			r.Parts[i].Documents = append(r.Parts[i].Documents, json.RawMessage(text))
		default:
			r.Parts[i].Output = text
		}
	}
}

// cell makes foreign text harmless in a Markdown table: one line, no markup, at most 200
// characters.
func cell(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune("|<>`[]*_\\", r), unicode.IsControl(r):
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "..."
	}
	return text
}
