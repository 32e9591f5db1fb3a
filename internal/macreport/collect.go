package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/metalcast/metalcast/internal/fault"
)

// mostTime is how long a part may take: a hanging GPU must not prevent the report.
const mostTime = 45 * time.Minute

// collector tries everything, part by part.
type collector struct {
	dir      string // the repository
	out      string // the output file, or "" for one in bin that is named after the machine
	quick    bool
	mac      bool
	mostTime time.Duration
	identity identity
	log      io.Writer
}

// trial is a part that has not run yet.
type trial struct {
	name    string
	command []string
	read    func(p *part, output string) error // finds documents, a summary and errors in the output
}

func (c *collector) trials() []trial {
	parity, bench, test := []string{"./build.sh", "parity", "--json"}, []string{"bin/metalcast", "bench", "--json"}, []string{"./build.sh", "test", "-json"}
	if c.quick {
		parity, bench, test = append(parity, "--quick"), append(bench, "--size", "64MiB"), append(test, "-short")
	}
	return []trial{
		{"build", []string{"./build.sh", "build"}, func(*part, string) error { return nil }},
		{"doctor", []string{"bin/metalcast", "doctor", "--json"}, readDoctor},
		{"parity", parity, readParity},
		{"demo", []string{"./build.sh", "demo"}, readDemo},
		{"bench", bench, readBench},
		{"test", test, readTestPart},
	}
}

// run writes the report again after each part, so that a crash of the machine leaves the previous
// parts.
func (c *collector) run(ctx context.Context) error {
	r := report{Format: format, Date: time.Now().UTC().Format(time.DateOnly), Mac: c.mac, Quick: c.quick}
	r.Commit, r.Modified = c.commit()
	trials := c.trials()
	for i, t := range trials {
		fmt.Fprintf(c.log, "mac-report: %d of %d: %s\n", i+1, len(trials), strings.Join(t.command, " "))
		p := c.try(ctx, t)
		r.Parts = append(r.Parts, p)
		if !p.OK {
			fmt.Fprintf(c.log, "mac-report: %s: %s\n", p.Name, p.Summary)
		}
		if t.name == "build" {
			continue // the file is named after doctor's output
		}
		if err := c.write(r); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.log, "mac-report: %s\n%s\n", c.out, lastLine)
	return nil
}

// try runs one part and records whatever happens.
func (c *collector) try(ctx context.Context, t trial) part {
	p := part{Name: t.name}
	start := time.Now()
	output, err := c.command(ctx, t.command)
	p.Seconds = time.Since(start).Seconds()
	wrong := t.read(&p, output)
	if err == nil {
		err = wrong
	}
	p.OK = err == nil
	if p.OK {
		p.Output = ""
		return p
	}
	if p.Output == "" && len(p.Documents) == 0 {
		p.Output = output
	}
	p.Summary = strings.TrimPrefix(p.Summary+"; "+err.Error(), "; ")
	return p
}

// command runs a command, with its children, for at most mostTime, and returns its output.
func (c *collector) command(ctx context.Context, command []string) (string, error) {
	if ctx.Err() != nil {
		return "", errors.New("not run: interrupted")
	}
	timed, cancel := context.WithTimeout(ctx, c.mostTime)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(timed, command[0], command[1:]...)
	cmd.Dir = c.dir
	if !filepath.IsAbs(command[0]) {
		cmd.Path = filepath.Join(c.dir, command[0])
	}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Env = os.Environ()
	if _, set := os.LookupEnv("METALCAST_REQUIRE"); c.mac && !set {
		cmd.Env = append(cmd.Env, "METALCAST_REQUIRE=metal")
	}
	cmd.WaitDelay = 10 * time.Second
	defer endTogether(cmd)()
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	case timed.Err() != nil:
		err = fmt.Errorf("not finished after %v", c.mostTime)
	case err != nil:
		err = fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return output.String(), err
}

func (c *collector) commit() (commit string, modified bool) {
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", c.dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return "unknown", false
	}
	changes, err := git("status", "--porcelain", "--untracked-files=no")
	return commit, err != nil || changes != ""
}

func (c *collector) write(r report) error {
	f := r.facts()
	r = c.identity.private(f.processor, f.device).report(r)
	if c.out == "" {
		c.out = filepath.Join(c.dir, "bin", "mac-report-"+slug(r.machine())+"-"+r.Date+".md")
	}
	if err := os.MkdirAll(filepath.Dir(c.out), 0o755); err != nil {
		return err
	}
	text, err := r.markdown()
	if err != nil {
		return fault.In(c.out, err)
	}
	return os.WriteFile(c.out, text, 0o644)
}

// slug turns text into part of a file name: "apple-m4-max-macos-26.1".
func slug(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' })
	return strings.Join(words, "-")
}

// appleSilicon reports whether this is a Mac on which Metal kernels can be judged.
func appleSilicon() bool { return runtime.GOOS == "darwin" && runtime.GOARCH == "arm64" }
