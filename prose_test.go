package metalcast_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// width is where comments and Markdown wrap, in characters. A tab counts as one.
const width = 100

// retired are phrases that are not English, or that a word of ARCHITECTURE.md's glossary has
// replaced. They match text whose line breaks have become spaces.
var retired = []*regexp.Regexp{
	// A conversion is resumed, or started over. Something is done again.
	regexp.MustCompile(`(?i)\b(go|goes|going|gone|went) on with\b`),
	regexp.MustCompile(`(?i)\banew\b`),
	regexp.MustCompile(`(?i)\b(the same (call|command)( again)?|a run that) goes on\b`),
	regexp.MustCompile(`(?i)\bother(wise)? than computed again\b`),
	// A function reports whether, or returns.
	regexp.MustCompile(`(?i)\btells (whether|how|which|what|that|where|when|if|of|the)\b`),
	regexp.MustCompile(`// \w+ gives\b`),
	regexp.MustCompile(`(?i)\bgives (what|each|every|whether)\b`),
	regexp.MustCompile(`(?i)\bis what (its|the) source gives\b`),
	// "is not one of", "except for", "everything else".
	regexp.MustCompile(`(?i)\b(is|are) none of\b`),
	regexp.MustCompile(`(?i), but for\b`),
	regexp.MustCompile(`(?i)\ball else\b`),
	// From the table that set the tone.
	regexp.MustCompile(`(?i)\bbelieved blindly\b`),
	regexp.MustCompile(`(?i)\bleaves a mark\b`),
	regexp.MustCompile(`(?i)\bthat it is the error of\b`),
	regexp.MustCompile(`(?i)\beach without which\b`),
	regexp.MustCompile(`(?i)\bis after how many\b`),
	regexp.MustCompile(`(?i)\bthose that no line before\b`),
	regexp.MustCompile(`(?i)\bnobody reads any more\b`),
	regexp.MustCompile(`(?i)\bof sound checkpoints' output\b`),
	// The glossary: save point, chunk, conversion, in flight.
	regexp.MustCompile(`(?i)\b(last|next|each|every|another|other|between) checkpoints?( of the journal|'s line)\b`),
	regexp.MustCompile(`(?i)\b(from|at|since|after|to) the (last|next) checkpoint\b`),
	regexp.MustCompile(`(?i)\bno other checkpoint\b`),
	regexp.MustCompile(`(?i)\bpieces? of [0-9]+ [KMG]iB\b`),
	regexp.MustCompile(`(?i)\b(conversion|run|pass) at work\b`),
	regexp.MustCompile(`(?i)\b(window|piece|group|job)s? in work\b`),
}

// unchecked are files, and directories with those below them, that still have to be rewritten.
// Remove an entry once it passes; never add one. Markdown is checked everywhere.
var unchecked = []string{
	"cgo", "cpufallback", "emulator", "metal", "shaders",
}

// text is something that people read, and its line.
type text struct {
	line  int
	words string
}

func TestProse(t *testing.T) {
	checked := map[string]int{}
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(entry.Name(), ".") || slices.Contains([]string{"bin", "shared", "emulator/build", "internal/synth/files"}, name)) {
				return filepath.SkipDir
			}
			return nil
		}
		read := reader(name)
		if read == nil || !entry.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		texts, wide := read(t, name, string(content))
		for _, line := range wide {
			t.Errorf("%s:%d: wider than %d", name, line, width)
		}
		for _, problem := range phrases(texts) {
			t.Errorf("%s:%s", name, problem)
		}
		checked[path.Ext(name)]++
		return nil
	}))
	for ext, least := range map[string]int{".go": 100, ".md": 15, ".py": 60, ".s": 2} {
		assert.GreaterOrEqual(t, checked[ext], least, ext)
	}
}

// What the readers miss would pass in silence.
func TestProseFinds(t *testing.T) {
	long := strings.Repeat("word ", 25)
	for name, test := range map[string]struct {
		file, content string
		found         []string
		wide          []int
	}{
		"a comment over two lines": {"a.go", "package a\n\n// It is gone\n// on with.\n", []string{`3: "gone on with"`}, nil},
		"a trailing comment":       {"a.go", "package a // " + long + "\n", nil, []int{1}},
		"a directive":              {"a.go", "package a\n\n//go:generate " + long + "\n", nil, nil},
		"wide code":                {"a.go", "package a\n\nvar x = \"" + long + "\" // its comment\n", nil, nil},
		"a string":                 {"a.go", "package a\n\nvar x = `made\nanew`\n", []string{`3: "anew"`}, nil},
		"a doc comment":            {"a.go", "package a\n\n// f gives x.\nfunc f() {}\n", []string{`3: "// f gives"`}, nil},
		"assembly":                 {"a.s", "\tRET // tells whether " + long + "\n", []string{`1: "tells whether"`}, []int{1}},
		"a docstring":              {"a.py", "\"\"\"Anew.\n\n" + long + "\"\"\"\n", []string{`1: "Anew"`}, []int{3}},
		"a comment in Python":      {"a.py", "x = '# not this " + long + "'\n# " + long + "\n", nil, []int{2}},
		"a paragraph":              {"a.md", "It is\nnone of them.\n\n" + long + "\n", []string{`1: "is none of"`}, []int{4}},
		"a table and code":         {"a.md", "| " + long + " |\n\n    " + long + "\n\n```\n" + long + "\n```\n", nil, nil},
		"a table's words":          {"a.md", "| a |\n| pieces of 4 MiB |\n", []string{`2: "pieces of 4 MiB"`}, nil},
		"English":                  {"a.md", "The checkpoint's last shard tells a story, one piece at a time.\n", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			texts, wide := reader("internal/"+test.file)(t, test.file, test.content)
			assert.Equal(t, test.found, phrases(texts))
			assert.Equal(t, test.wide, wide)
		})
	}
	for _, name := range []string{"docs/macs/m4.md", "metal/tile.go", "cgo/mtl.go", "bin/metalcast"} {
		assert.Nil(t, reader(name), name)
	}
	assert.NotNil(t, reader("internal/kernel/kernel.go"))
}

// phrases returns the retired phrases in texts, each with its line.
func phrases(texts []text) (found []string) {
	for _, x := range texts {
		words := strings.Join(strings.Fields(x.words), " ")
		for _, phrase := range retired {
			if hit := phrase.FindString(words); hit != "" {
				found = append(found, strconv.Itoa(x.line)+": "+strconv.Quote(hit))
			}
		}
	}
	return found
}

// reader returns what extracts a file's texts and the lines that are too wide, or nil if the file
// is not checked.
func reader(name string) func(t *testing.T, name, content string) (texts []text, wide []int) {
	dir, base := path.Split(name)
	if path.Ext(base) == ".md" {
		if dir == "docs/macs/" && base != "README.md" {
			return nil // reports from others
		}
		return readMarkdown
	}
	if base == "prose_test.go" || slices.ContainsFunc(unchecked, func(pkg string) bool {
		return pkg == name || pkg == "." && dir == "" || strings.HasPrefix(dir, pkg+"/") && dir != "internal/kernel/kerneltest/"
	}) {
		return nil
	}
	switch path.Ext(base) {
	case ".go":
		return readGo
	case ".py":
		return readPython
	case ".s", ".c", ".cpp", ".h", ".m", ".metal":
		return readSlashes
	}
	return nil
}

// tooWide reports whether a line is wider than it need be: code in front of a comment may be wide
// itself, and a word may be longer than a line.
func tooWide(line string, comment int) bool {
	if utf8.RuneCountInString(line) <= width || utf8.RuneCountInString(strings.TrimRight(line[:comment], " \t")) > width {
		return false
	}
	return strings.Contains(strings.TrimSpace(strings.TrimLeft(line[comment:], "/#-* \t\"")), " ")
}

// directive is a comment for tools.
var directive = regexp.MustCompile(`^(//(go:|nolint|lint:)|# ?(noqa|type:|ruff:|!))`)

func readGo(t *testing.T, name, content string) (texts []text, wide []int) {
	files, lines := token.NewFileSet(), strings.Split(content, "\n")
	file, err := parser.ParseFile(files, name, content, parser.ParseComments)
	require.NoError(t, err)
	for _, group := range file.Comments {
		var words []string
		for _, c := range group.List {
			at := files.Position(c.Pos())
			if directive.MatchString(c.Text) {
				continue
			}
			words = append(words, c.Text)
			if len(words) > 1 {
				words[len(words)-1] = strings.TrimPrefix(c.Text, "//")
			}
			if tooWide(lines[at.Line-1], at.Column-1) {
				wide = append(wide, at.Line)
			}
		}
		texts = append(texts, text{files.Position(group.Pos()).Line, strings.Join(words, "\n")})
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
			words, err := strconv.Unquote(s.Value)
			require.NoError(t, err)
			texts = append(texts, text{files.Position(s.Pos()).Line, words})
		}
		return true
	})
	return texts, wide
}

// readSlashes returns the comments of assembly and C.
func readSlashes(_ *testing.T, _, content string) (texts []text, wide []int) {
	for i, line := range strings.Split(content, "\n") {
		if code, words, ok := strings.Cut(line, "//"); ok {
			texts = append(texts, text{i + 1, words})
			if tooWide(line, len(code)) {
				wide = append(wide, i+1)
			}
		}
	}
	return texts, wide
}

// pythonTokens are strings and comments.
var pythonTokens = regexp.MustCompile(`(?s)""".*?"""|'''.*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*`)

func readPython(_ *testing.T, _, content string) (texts []text, wide []int) {
	for _, at := range pythonTokens.FindAllStringIndex(content, -1) {
		token, first := content[at[0]:at[1]], strings.Count(content[:at[0]], "\n")+1
		texts = append(texts, text{first, token})
		begin := strings.LastIndex(content[:at[0]], "\n") + 1
		indent := strings.TrimSpace(content[begin:at[0]])
		if directive.MatchString(token) || !strings.HasPrefix(token, "#") && (indent != "" || !strings.HasPrefix(token, `"""`)) {
			continue // only comments and docstrings wrap
		}
		end := at[1] + len(strings.SplitN(content[at[1]:], "\n", 2)[0])
		for i, line := range strings.Split(content[begin:end], "\n") {
			comment := 0
			if i == 0 {
				comment = at[0] - begin
			}
			if tooWide(line, comment) {
				wide = append(wide, first+i)
			}
		}
	}
	return texts, wide
}

// readMarkdown returns paragraphs. Tables, code and images may be wide.
func readMarkdown(_ *testing.T, _, content string) (texts []text, wide []int) {
	fenced := false
	for i, line := range strings.Split(content, "\n") {
		fence := strings.HasPrefix(line, "```")
		fenced = fenced != fence
		prose := !fenced && !fence && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "!")
		if prose && tooWide(line, 0) {
			wide = append(wide, i+1)
		}
		if n := len(texts); n > 0 && strings.TrimSpace(line) != "" && prose {
			texts[n-1].words += "\n" + line
		} else {
			texts = append(texts, text{i + 1, line})
		}
	}
	return texts, wide
}
