package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/metalcast/metalcast/internal/parity"
)

// inRow matches line breaks inside a row of a document's list.
var inRow = regexp.MustCompile(`\n {6,}|\n {4}(\})`)

// documents extracts the JSON documents from a command's output: a document is printed indented,
// from a line "{" to a line "}". Each row of a list then becomes one line, because an issue's text
// is limited to 65,536 characters.
func documents(output string) (list []json.RawMessage, rest string) {
	var doc, other strings.Builder
	for line := range strings.Lines(output) {
		bare := strings.TrimRight(line, "\r\n")
		switch {
		case bare == "{" && doc.Len() == 0, doc.Len() > 0:
			doc.WriteString(line)
		default:
			other.WriteString(line)
		}
		if bare == "}" && doc.Len() > 0 {
			if d := strings.TrimSpace(doc.String()); json.Valid([]byte(d)) {
				list = append(list, json.RawMessage(inRow.ReplaceAllString(d, " $1")))
			} else {
				other.WriteString(doc.String())
			}
			doc.Reset()
		}
	}
	other.WriteString(doc.String())
	return list, other.String()
}

// single decodes the only document of a part into value.
func single(p *part, output string, value any) error {
	p.Documents, p.Output = documents(output)
	if len(p.Documents) != 1 {
		return fmt.Errorf("%d JSON documents were printed, want 1", len(p.Documents))
	}
	return json.Unmarshal(p.Documents[0], value)
}

func readDoctor(p *part, output string) error {
	var d diagnosis
	if err := single(p, output, &d); err != nil {
		return err
	}
	p.Summary = d.Processor + ", " + d.system()
	switch {
	case d.Metal != nil:
		p.Summary += ", Metal device " + d.Metal.Name
	default:
		p.Summary += ", " + d.MetalProblem
	}
	return nil
}

func readParity(p *part, output string) error {
	p.Documents, p.Output = documents(output)
	differences, elements := int64(0), int64(0)
	for i, d := range p.Documents {
		var r parityDocument
		if err := json.Unmarshal(d, &r); err != nil {
			return err
		}
		differences, elements = differences+r.Differences, elements+r.Elements
		all := len(r.Rows)
		r.Rows = slices.DeleteFunc(r.Rows, func(row parity.Row) bool { return row.Differences == 0 })
		r.EqualRows = all - len(r.Rows)
		short, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		p.Documents[i] = inRow.ReplaceAll(short, []byte(" $1"))
	}
	p.Summary = fmt.Sprintf("%d elements, %d differences", elements, differences)
	if elements == 0 || differences > 0 {
		return errors.New("not equal")
	}
	return nil
}

func readBench(p *part, output string) error {
	var b benchDocument
	if err := single(p, output, &b); err != nil {
		return err
	}
	p.Summary = fmt.Sprintf("%d rows", len(b.Rows))
	if len(b.Rows) == 0 {
		return errors.New("nothing was measured")
	}
	return nil
}

var (
	demoVerified = regexp.MustCompile(`(?m)^metalcast: .*, verified byte by byte$`)
	demoComputed = regexp.MustCompile(`(?m)^metalcast: ([0-9.]+) s, .*, computed by (.+)$`)
)

func readDemo(p *part, output string) error {
	d := demoDocument{Verified: demoVerified.MatchString(output)}
	if m := demoComputed.FindStringSubmatch(output); m != nil {
		d.Seconds, _ = strconv.ParseFloat(m[1], 64)
		d.Device = m[2]
	}
	doc, err := json.Marshal(d)
	if err != nil {
		return err
	}
	p.Documents, p.Output = []json.RawMessage{doc}, output
	if !d.Verified {
		p.Summary = "not verified"
		return errors.New("the conversion does not say that it is verified byte by byte")
	}
	p.Summary = fmt.Sprintf("converted and verified in %g s, computed by %s", d.Seconds, d.Device)
	return nil
}

func readTestPart(p *part, output string) error {
	c, failures := readTests(output)
	doc, err := json.Marshal(c)
	if err != nil {
		return err
	}
	p.Documents, p.Output, p.Summary = []json.RawMessage{doc}, failures, c.String()
	if c.Failed > 0 || c.Passed == 0 {
		return errors.New("not all passed")
	}
	return nil
}
