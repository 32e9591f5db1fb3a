package metalcast_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What documents and workflows say of build.sh's commands, and of scripts in .ci, is there to be
// run: GitHub would find out only on a tag.
func TestCommandsThatAreNamedExist(t *testing.T) {
	script, err := os.ReadFile("build.sh")
	require.NoError(t, err)
	known := map[string]bool{"help": true}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)\(\) \{ # `).FindAllStringSubmatch(string(script), -1) {
		known[strings.ReplaceAll(strings.TrimSuffix(m[1], "_"), "_", "-")] = true
	}
	command := regexp.MustCompile(`\./build\.sh ([a-z][a-z-]*)|(?:run: |^\s+|\x60)(\.ci/[a-z0-9-]+)`)
	found := 0
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", ".github/*/*.yml", ".ci/*", "emulator/README.md", "consumers/README.md"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, m := range command.FindAllStringSubmatch(string(text), -1) {
				found++
				if m[1] != "" {
					assert.True(t, known[m[1]], "%s: ./build.sh %s: there is no such command", file, m[1])
				} else {
					assert.FileExists(t, m[2], file)
				}
			}
		}
	}
	assert.Greater(t, found, 40)
}
