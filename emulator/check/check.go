//go:build ignore

// check.go looks in .metal texts for what C++ accepts and MSL, or Apple's compiler, does not.
//
//	go run emulator/check/check.go PLANTED FILE...
//
// Address spaces and the instructions that a text comes down to are checked by clang, as C++ for OpenCL; attributes and words by rules
// here. PLANTED holds small texts, each with an error that must be found, before anything is said about FILE.
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: check PLANTED FILE...")
		os.Exit(2)
	}
	problems := planted(os.Args[1])
	for _, file := range os.Args[2:] {
		text, err := os.ReadFile(file)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		for _, p := range check(string(text)) {
			problems = append(problems, file+":"+p)
		}
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// planted runs the texts of a file, each after a line "--- words that the report holds", or "--- sound".
func planted(file string) (problems []string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	const header = "#include <metal_stdlib>\nusing namespace metal;\n"
	for section := range strings.SplitSeq("\n"+string(text), "\n--- ") {
		says, body, _ := strings.Cut(section, "\n")
		if strings.HasPrefix(says, "//") || strings.TrimSpace(says) == "" {
			continue
		}
		found := strings.Join(check(header+body), "\n")
		switch {
		case says == "sound" && found != "":
			problems = append(problems, fmt.Sprintf("%s: a sound text is refused: %s\n%s", file, found, body))
		case says != "sound" && !strings.Contains(found, says):
			problems = append(problems, fmt.Sprintf("%s: a planted error is not found: %s\n%sfound: %s", file, says, body, found))
		}
	}
	return problems
}

// check gives "line: problem" of all that is wrong with a text.
func check(text string) []string {
	plain := withoutComments(text)
	return slices.Concat(words(plain), attributes(plain), compiled(text))
}

var comment = regexp.MustCompile(`//[^\n]*|(?s:/\*.*?\*/)`)

// withoutComments keeps the line breaks.
func withoutComments(text string) string {
	return comment.ReplaceAllStringFunc(text, func(c string) string { return strings.Repeat("\n", strings.Count(c, "\n")) })
}

// rules are words and forms that do not belong in a kernel's text.
var rules = []struct {
	form *regexp.Regexp
	why  string
}{
	{regexp.MustCompile(`\b(double|new|delete|throw|try|catch|dynamic_cast|typeid|virtual|goto|asm|thread_local)\b|\bstd::|__attribute__|__builtin|\b__\w+`), "not MSL"},
	{regexp.MustCompile(`\[[&=]?\]\s*\(`), "a lambda: MSL 3.2 or later"},
	{regexp.MustCompile(`\bbfloat`), "MSL 3.1 or later, and absent in virtual machines"},
	{regexp.MustCompile(`\b(float|half)[234]?\b`), "a floating-point type: what decides a bit is integer arithmetic"},
	{regexp.MustCompile(`(^|[^\w.])(\d+\.\d*|\.\d+)([eE][-+]?\d+)?[fFhH]?|(^|[^\w.])\d+[eE][-+]?\d+`), "a floating-point number"},
	{regexp.MustCompile(`\bmetal_\w+|\b_[A-Z]\w*`), "a name of Apple's or the compiler's"},
	{regexp.MustCompile(`max_total_threads_per_threadgroup`), "Apple's compiler loses barriers with small values of it"},
	{regexp.MustCompile(`\bthreadgroup\s+[\w:]+\s+\w+\s*(\[[^\]]*\]\s*)*[=,]`), "threadgroup memory is declared one at a time, without a value"},
	{regexp.MustCompile(`#\s*(pragma|if|ifdef|ifndef|error|undef)\b`), "one text for all: no conditional compilation"},
}

var (
	include = regexp.MustCompile(`#\s*include\b.*`)
	asFloat = regexp.MustCompile(`as_type<\s*float[234]?\s*>`)
)

func words(text string) (problems []string) {
	line := 0
	for l := range strings.Lines(text) {
		line++
		if i := include.FindString(l); i != "" {
			if !strings.Contains(i, "<metal_stdlib>") {
				problems = append(problems, fmt.Sprintf("%d: %s: only <metal_stdlib> is included", line, i))
			}
			continue
		}
		l = asFloat.ReplaceAllString(l, "as_type<>")
		for _, r := range rules {
			if found := r.form.FindString(l); found != "" {
				problems = append(problems, fmt.Sprintf("%d: %q: %s", line, strings.TrimSpace(found), r.why))
			}
		}
	}
	return problems
}

var (
	kernelHead = regexp.MustCompile(`\bkernel\s+(\w+)\s+(\w+)\s*\(`)
	attribute  = regexp.MustCompile(`\[\[\s*(\w+)\s*(?:\(\s*(\d+)\s*\))?\s*\]\]`)
	position   = regexp.MustCompile(`^(uint|ushort)([23]?)$`)
)

// positions are the attributes that may be scalars or vectors, but all of a kernel alike; scalars are always uint or ushort.
var positions = []string{"thread_position_in_grid", "threads_per_grid", "threadgroup_position_in_grid", "threadgroups_per_grid",
	"thread_position_in_threadgroup", "threads_per_threadgroup", "dispatch_threads_per_threadgroup"}
var scalars = []string{"thread_index_in_threadgroup"}

// attributes checks the parameters of every kernel, those that macros make included.
func attributes(text string) (problems []string) {
	expanded, err := preprocess(text)
	if err != nil {
		return []string{err.Error()}
	}
	names := map[string]bool{}
	for _, at := range kernelHead.FindAllStringSubmatchIndex(expanded, -1) {
		result, name := expanded[at[2]:at[3]], expanded[at[4]:at[5]]
		report := func(format string, a ...any) {
			problems = append(problems, fmt.Sprintf(" kernel %s: %s", name, fmt.Sprintf(format, a...)))
		}
		if result != "void" {
			report("gives %s, not void", result)
		}
		if names[name] {
			report("is there twice")
		}
		names[name] = true
		parameters(split(expanded[at[1]:]), report)
	}
	return problems
}

func parameters(list []string, report func(string, ...any)) {
	taken := map[string]bool{}
	shape := ""
	for _, p := range list {
		all := attribute.FindAllStringSubmatch(p, -1)
		if len(all) != 1 {
			report("%q has %d attributes, not one", p, len(all))
			continue
		}
		name, index := all[0][1], all[0][2]
		fields := strings.Fields(attribute.ReplaceAllString(p, ""))
		typ := strings.Join(fields[:max(0, len(fields)-1)], " ")
		switch {
		case name == "buffer" || name == "threadgroup":
			slot := name + "(" + index + ")"
			if n, err := strconv.Atoi(index); err != nil || n > 30 {
				report("%s: indices go from 0 to 30", slot)
			}
			if taken[slot] {
				report("%s is there twice", slot)
			}
			taken[slot] = true
			space := fields[0]
			if name == "threadgroup" && space != "threadgroup" || name == "buffer" && space != "device" && space != "constant" {
				report("%s is in the address space %s", slot, space)
			}
			if !strings.ContainsAny(p, "*&") {
				report("%s is neither a pointer nor a reference", slot)
			}
		case slices.Contains(positions, name):
			if !position.MatchString(typ) {
				report("%s is %q, not uint, ushort or a vector of two or three of them", name, typ)
			}
			if shape = cmp.Or(shape, typ); shape != typ {
				report("%s is %s, another is %s: all are alike", name, typ, shape)
			}
		case slices.Contains(scalars, name):
			if typ != "uint" && typ != "ushort" {
				report("%s is %q, not uint or ushort", name, typ)
			}
		default:
			report("the attribute %q is not known here", name)
		}
	}
}

// split gives the parameters up to the closing parenthesis.
func split(text string) (list []string) {
	depth, begin := 0, 0
	for i, c := range text {
		switch c {
		case '(', '[', '<':
			depth++
		case ']', '>':
			depth--
		case ')':
			if depth--; depth < 0 {
				return append(list, strings.TrimSpace(text[begin:i]))
			}
		case ',':
			if depth == 0 {
				list = append(list, strings.TrimSpace(text[begin:i]))
				begin = i + 1
			}
		}
	}
	return list
}

func clang(input string, args ...string) (string, error) {
	c := exec.Command(cmp.Or(os.Getenv("FAKE_METAL_CC"), "clang-19"), args...)
	c.Stdin = strings.NewReader(input)
	var out, diagnostics bytes.Buffer
	c.Stdout, c.Stderr = &out, &diagnostics
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, diagnostics.String())
	}
	return out.String(), nil
}

func preprocess(text string) (string, error) {
	return clang(include.ReplaceAllString(text, ""), "-x", "c++", "-E", "-P", "-")
}

// forbidden instructions of the compiled text. Emulating a 64-bit division goes wrong on this platform, and floating point is for loads and stores.
var forbidden = []struct {
	form *regexp.Regexp
	why  string
}{
	{regexp.MustCompile(`(?m)^.* = [us](div|rem) i64 .*$`), "a 64-bit division or remainder"},
	{regexp.MustCompile(`(?m)^.* = (fadd|fsub|fmul|fdiv|frem|fneg|fcmp|fptrunc|fpext|fpto[us]i|[us]itofp) .*$`), "floating-point arithmetic"},
	{regexp.MustCompile(`(?m)^.*addrspace\(4\).*$`), "a pointer without an address space"},
}

// compiled compiles the text as C++ for OpenCL and looks at the result.
func compiled(text string) (problems []string) {
	dir := filepath.Join("emulator", "check", "opencl")
	ir, err := clang(text, "-x", "clcpp", "-cl-std=CLC++2021", "-cl-no-stdinc", "-target", "spir64",
		"-Xclang", "-cl-ext=-__opencl_c_generic_address_space,-__opencl_c_pipes,-__opencl_c_device_enqueue",
		"-Wall", "-Wextra", "-Werror", "-Wno-unknown-attributes", "-Wno-missing-prototypes", "-Wno-unused-parameter",
		"-I"+dir, "-O0", "-S", "-emit-llvm", "-o", "-", "-")
	if err != nil {
		return []string{" " + strings.TrimSpace(err.Error())}
	}
	for _, f := range forbidden {
		if found := f.form.FindString(ir); found != "" {
			problems = append(problems, fmt.Sprintf(" %s: %s", f.why, strings.TrimSpace(found)))
		}
	}
	return problems
}
