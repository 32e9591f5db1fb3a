package metalcast_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/metalcast/metalcast"

// imports is policy: which of the module's packages each package may import. Do not change it to make a build pass; change the code, or the
// design and ARCHITECTURE.md first. internal/fault, the form of errors, is open to all.
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
	"cpufallback":                        {"internal/kernel", "internal/mlxquant", "internal/dtype"}, // never metal
	"metal":                              {"internal/kernel", "internal/mlxquant", "internal/dtype", "shaders", "cgo"},
	"internal/parity":                    {"internal/kernel", "internal/mlxquant", "internal/dtype"},
	"internal/bench":                     {"internal/kernel", "internal/mlxquant", "internal/dtype"},
	"internal/space":                     {},
	"internal/pass":                      {"internal/engine", "internal/plan", "internal/kernel", "internal/checkpoint", "cpufallback", "metal"},
	"internal/record":                    {"internal/plan", "internal/checkpoint"},
	"internal/loss":                      {"internal/pass", "internal/record", "internal/plan", "internal/engine", "internal/family", "internal/checkpoint", "internal/mlxquant", "internal/dtype", "internal/heatmap"},
	"internal/doctor":                    {"metal", "internal/checkpoint"},
	"internal/macreport":                 {"", "internal/doctor", "internal/bench", "internal/parity"}, // reads what the commands print
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
