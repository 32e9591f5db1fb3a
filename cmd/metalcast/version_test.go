package main

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
)

// Versions are semantic ones, a release or a candidate for one: packaging makes PEP 440's of them.
func TestVersionIsSemantic(t *testing.T) {
	assert.Regexp(t, regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-rc\.[1-9]\d*)?$`), metalcast.Version)
}

// What the go command records depends on how it was asked: in a clone, by "go install" of a
// version, or without any of it.
func TestVersionOfABuild(t *testing.T) {
	commit := strings.Repeat("5c", 20)
	stamped := func(modified, cgo string) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20261201051000-5c5c5c5c5c5c"}, Settings: []debug.BuildSetting{
			{Key: "CGO_ENABLED", Value: cgo}, {Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified},
		}}
	}
	for _, test := range []struct {
		name, commit, cgo string
		info              *debug.BuildInfo
		want              versionReport
	}{
		{"a clone", "commit " + commit, "with cgo", stamped("false", "1"), versionReport{Module: "v0.0.0-20261201051000-5c5c5c5c5c5c", Commit: commit, CGO: true}},
		{"a clone with changes", "commit " + commit + ", modified", "without cgo", stamped("true", "0"), versionReport{Module: "v0.0.0-20261201051000-5c5c5c5c5c5c", Commit: commit, Modified: true}},
		{"go install", "commit that of module v0.1.0", "without cgo", &debug.BuildInfo{Main: debug.Module{Version: "v0.1.0"}}, versionReport{Module: "v0.1.0"}},
		{"-buildvcs=false", "commit unknown", "without cgo", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, versionReport{}},
		{"no record", "commit unknown", "without cgo", nil, versionReport{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.Version, test.want.Go, test.want.OS, test.want.Arch = metalcast.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH
			r := versionOf(test.info)
			assert.Equal(t, test.want, r)
			var out bytes.Buffer
			showVersion(newUI(&out, io.Discard), r)
			lines := strings.Split(out.String(), "\n")
			require.Len(t, lines, 5)
			assert.Equal(t, test.commit, lines[1])
			assert.True(t, strings.HasSuffix(lines[3], ", "+test.cgo), lines[3])
		})
	}
}

func TestVersionAsJSON(t *testing.T) {
	var out, errs bytes.Buffer
	require.Zero(t, run([]string{"version", "--json"}, &out, &errs), "%s", &errs)
	var r map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	for _, key := range []string{"version", "modified", "go", "os", "arch", "cgo"} {
		assert.Contains(t, r, key)
	}
	assert.Equal(t, metalcast.Version, r["version"])
}
