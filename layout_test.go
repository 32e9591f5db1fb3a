package metalcast_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/metalcast/metalcast"

// imports is policy: which of the module's packages each package may import. Do not change it to
// make a build pass; change the code, or the design and ARCHITECTURE.md first. internal/fault, the
// form of errors, is open to all.
var imports = map[string][]string{
	"internal/fault":                     {},
	"internal/dtype":                     {},
	"internal/needtest":                  {},
	"internal/temptest":                  {},
	"internal/vectortest":                {},
	"internal/newdir":                    {},
	"internal/heatmap":                   {},
	"shaders":                            {},
	"cgo":                                {},
	"internal/safetensors":               {"internal/dtype"},
	"internal/kernel":                    {"internal/mlxquant", "internal/dtype"},
	"internal/kernel/kerneltest":         {"internal/needtest", "internal/vectortest", "internal/kernel", "internal/mlxquant", "internal/dtype"},
	"internal/checkpoint":                {"internal/safetensors", "internal/dtype"},
	"internal/checkpoint/checkpointtest": {"internal/needtest", "internal/temptest", "internal/synth"},
	"internal/family":                    {"internal/checkpoint", "internal/dtype"},
	"internal/plan":                      {"internal/family", "internal/kernel", "internal/mlxquant", "internal/checkpoint", "internal/safetensors", "internal/dtype"},
	"internal/engine":                    {"internal/plan", "internal/kernel", "internal/mlxquant", "internal/dtype"}, // never checkpoint: Source and Sink are its own
	"internal/engine/enginetest":         {"internal/checkpoint", "internal/checkpoint/checkpointtest", "internal/plan", "internal/kernel", "internal/mlxquant", "internal/dtype"},
	"internal/partial":                   {"internal/engine", "internal/plan", "internal/newdir"},
	"internal/synth":                     {"internal/safetensors", "internal/dtype", "internal/newdir"},
	"internal/mlxquant":                  {"internal/dtype"},
	// Never metal.
	"cpufallback":     {"internal/kernel", "internal/mlxquant", "internal/dtype"},
	"metal":           {"internal/kernel", "internal/mlxquant", "internal/dtype", "shaders", "cgo"},
	"internal/parity": {"internal/kernel", "internal/mlxquant", "internal/dtype"},
	"internal/bench":  {"internal/kernel", "internal/mlxquant", "internal/dtype"},
	"internal/space":  {},
	"internal/pass":   {"internal/engine", "internal/plan", "internal/kernel", "internal/checkpoint", "cpufallback", "metal"},
	"internal/record": {"internal/plan", "internal/checkpoint"},
	"internal/loss":   {"internal/pass", "internal/record", "internal/plan", "internal/engine", "internal/family", "internal/checkpoint", "internal/mlxquant", "internal/dtype", "internal/heatmap"},
	"internal/doctor": {"metal", "internal/checkpoint"},
	// Reads what the commands print.
	"internal/macreport": {"", "internal/doctor", "internal/bench", "internal/parity"},
	"": {"internal/pass", "internal/partial", "internal/space", "internal/record", "internal/plan", "internal/engine", "internal/family", "internal/checkpoint", "internal/kernel", "internal/mlxquant",
		"internal/dtype", "internal/newdir", "internal/safetensors"},
	"packaging": {""}, // for Version
	"cmd/metalcast": {"", "internal/synth", "internal/doctor", "internal/newdir", "internal/dtype", "metal",
		"internal/loss", "internal/pass", "internal/bench", "internal/parity", "internal/space", "internal/partial", "internal/engine", "internal/kernel", "cpufallback"}, // the last few for bench and parity
}

// unsafeAllowed may import "unsafe", cAllowed may import "C".
var (
	unsafeAllowed = []string{"cpufallback", "cgo", "metal", "emulator/probe"}
	cAllowed      = []string{"cgo", "emulator/probe"}
)

func TestImportGraph(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for pkg, list := range listImports(t, goos) {
			allowed, known := imports[pkg]
			if !assert.True(t, known, "package %q is not in the policy", pkg) {
				continue
			}
			for _, path := range list {
				switch inside, ok := strings.CutPrefix(path, module); {
				case path == "unsafe":
					assert.Contains(t, unsafeAllowed, pkg, `imports "unsafe" on %s`, goos)
				case path == "C":
					assert.Contains(t, cAllowed, pkg, `imports "C" on %s`, goos)
				case path == "testing":
					assert.True(t, strings.HasSuffix(pkg, "test"), "%s is a product package and imports testing", pkg)
				case ok:
					inside = strings.TrimPrefix(inside, "/")
					assert.True(t, inside == "internal/fault" || slices.Contains(allowed, inside), "%q may not import %q (%s)", pkg, inside, goos)
				}
			}
		}
	}
}

// listImports asks the go command for every package's imports, tests left out.
func listImports(t *testing.T, goos string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=arm64", "CGO_ENABLED=1")
	out, err := cmd.Output()
	require.NoError(t, err)
	graph := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		graph[strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")] = fields[1:]
	}
	return graph
}

// No leftovers drawer: these names say nothing about what is inside.
func TestNoVaguePackages(t *testing.T) {
	for pkg := range listImports(t, "linux") {
		for part := range strings.SplitSeq(pkg, "/") {
			assert.NotContains(t, []string{"pkg", "util", "utils", "common", "types", "helpers", "misc"}, part)
		}
	}
}

// The root package is the API alone, and product files are short: a reader sees one subject at a
// time.
func TestSizes(t *testing.T) {
	var sizes []int
	files, lines := 0, 0
	require.NoError(t, filepath.WalkDir(".", func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if name := e.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "shared") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		n := strings.Count(string(text), "\n")
		sizes = append(sizes, n)
		if !strings.ContainsRune(filepath.ToSlash(path), '/') {
			files, lines = files+1, lines+n
		}
		return err
	}))
	assert.LessOrEqual(t, files, 12, "product files of the root package")
	assert.LessOrEqual(t, lines, 1700, "their lines")
	slices.Sort(sizes)
	assert.LessOrEqual(t, sizes[len(sizes)/2], 150, "the median product file's lines")
}
