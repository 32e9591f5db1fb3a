//go:build ignore

// mutants.go plants errors in a copy of the tree, one at a time, and demands that the tests under the fake Metal fail.
//
//	go run emulator/mutants/mutants.go LIST [part of a name]
//
// LIST holds blocks "name: ...", "file: ...", lines "- old" and "+ new", apart by blank lines. The old text occurs once. A line "with: NAME=VALUE" adds
// to the tests' environment. A mutant that does not compile is an error of the list, not a success.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type mutant struct{ name, file, with, old, new string }

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: mutants LIST [part of a name]")
		os.Exit(2)
	}
	part := strings.Join(os.Args[2:], " ")
	if err := run(os.Args[1], part); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(list, part string) error {
	mutants, err := read(list)
	if err != nil {
		return err
	}
	t, err := newTree()
	if err != nil {
		return err
	}
	defer os.RemoveAll(t.dir)
	if out, err := t.test(); err != nil {
		return fmt.Errorf("the tests fail without a mutant: %w\n%s", err, out)
	}
	bad := 0
	fmt.Printf("%-52s %-24s %7s  %s\n", "mutant", "file", "seconds", "seen by")
	every := 1 // METALCAST_MUTANTS=4: each fourth
	if n, err := strconv.Atoi(os.Getenv("METALCAST_MUTANTS")); err == nil && n > 0 {
		every = n
	}
	for i, m := range mutants {
		if !strings.Contains(m.name, part) || i%every != 0 {
			continue
		}
		start := time.Now()
		seen, err := t.try(m)
		if err != nil {
			seen = "NOT SEEN: " + err.Error()
			bad++
		}
		fmt.Printf("%-52s %-24s %7.1f  %s\n", m.name, m.file, time.Since(start).Seconds(), seen)
	}
	if bad > 0 {
		return fmt.Errorf("%d mutants were not seen", bad)
	}
	return nil
}

func read(list string) (mutants []mutant, err error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, err
	}
	for block := range strings.SplitSeq(string(text), "\n\n") {
		var m mutant
		var old, fresh []string
		for line := range strings.SplitSeq(strings.TrimSpace(block), "\n") {
			key, rest, _ := strings.Cut(line, " ")
			switch key {
			case "name:":
				m.name = rest
			case "file:":
				m.file = rest
			case "with:":
				m.with = rest
			case "-":
				old = append(old, rest)
			case "+":
				fresh = append(fresh, rest)
			case "#", "":
			default:
				return nil, fmt.Errorf("%s: %q", list, line)
			}
		}
		m.old, m.new = strings.Join(old, "\n"), strings.Join(fresh, "\n")
		if m.name != "" {
			mutants = append(mutants, m)
		}
	}
	return mutants, nil
}

// tree is a copy of the working tree.
type tree struct {
	dir  string
	with string // added to the environment
}

func newTree() (*tree, error) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return nil, err
	}
	names, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(strings.Trim(string(names), "\x00"), "\x00") {
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) { // deleted, not committed
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777)
		}
		if err == nil {
			info, _ := os.Stat(name)
			err = os.WriteFile(filepath.Join(dir, name), data, info.Mode())
		}
		if err != nil {
			return nil, err
		}
	}
	return &tree{dir: dir}, nil
}

// try plants a mutant, runs the tests and takes it out again. It tells which test saw it.
func (t *tree) try(m mutant) (seen string, err error) {
	file := filepath.Join(t.dir, m.file)
	sound, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(sound), m.old); n != 1 {
		return "", fmt.Errorf("the old text occurs %d times", n)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(sound), m.old, m.new, 1)), 0o666); err != nil {
		return "", err
	}
	defer os.WriteFile(file, sound, 0o666)
	if err := t.compiles(file); err != nil {
		return "", err
	}
	t.with = m.with
	out, err := t.test()
	t.with = ""
	if err == nil {
		return "", errors.New("all tests pass")
	}
	return witness(out), nil
}

func (t *tree) compiles(file string) error {
	commands := [][]string{{"go", "build", "-tags", "fakemetal", "./cgo/...", "./metal/...", "./internal/plan/..."}}
	if filepath.Ext(file) == ".metal" {
		texts := filepath.Join(t.dir, "kernels")
		commands = [][]string{{"./build.sh", "kernels", texts}}
		for _, library := range []string{"convert.metal", "quantize.metal"} {
			commands = append(commands, []string{"emulator/msl/msl-compile", filepath.Join(texts, library), filepath.Join(t.dir, "modules")})
		}
	}
	for _, c := range commands {
		if out, err := t.command(c...); err != nil {
			return fmt.Errorf("it does not compile: %s", firstLine(out))
		}
	}
	return nil
}

// test runs the tests of the planner, which need no device, then those of the backend.
func (t *tree) test() ([]byte, error) {
	if out, err := t.command("env", "CGO_ENABLED=0", "go", "test", "-count=1", "./internal/plan/..."); err != nil {
		return out, err
	}
	return t.command("go", "test", "-tags", "fakemetal", "-count=1", "-failfast", "-timeout=3m", "./metal/...")
}

func (t *tree) command(name ...string) ([]byte, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(context.Background(), name[0], name[1:]...)
	c.Dir = t.dir
	// The fake itself is not mutated: this tree's is used.
	c.Env = append(os.Environ(), "CGO_ENABLED=1", "CC="+filepath.Join(here, "emulator", "fake", "cc"), "FAKE_METAL_CACHE="+filepath.Join(t.dir, "modules"))
	if t.with != "" {
		c.Env = append(c.Env, t.with)
	}
	return c.CombinedOutput()
}

var (
	failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	ending  = regexp.MustCompile(`(?m)^(mslemu: .*|fake Metal: .*|panic: .*)$`)
)

// witness names the innermost test that failed, or how the process ended.
func witness(out []byte) string {
	if end := ending.Find(out); end != nil {
		return string(end)
	}
	all := failure.FindAllSubmatch(out, -1)
	if len(all) == 0 {
		return firstLine(out)
	}
	deepest := all[0][1]
	for _, f := range all {
		if bytes.Count(f[1], []byte("/")) > bytes.Count(deepest, []byte("/")) {
			deepest = f[1]
		}
	}
	return string(deepest)
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
