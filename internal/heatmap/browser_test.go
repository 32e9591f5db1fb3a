package heatmap

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
)

// In a window of usual width every column of the tables is visible, however long the names are.
func TestTablesFitTheWindow(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		needtest.Skip(t, "browser", "no chromium")
	}
	p := small()
	wide := Table{Caption: "By tensor", Head: []string{"tensor", "format", "its worst group", "error there", "relative RMSE", "weights", "zeroed groups"}, Numbers: 3}
	for i := range 20 {
		wide.Rows = append(wide.Rows, []string{
			fmt.Sprintf("language_model.model.layers.%d.linear_attn.shared_expert.gate_proj.weight", i), "affine 4/64", "expert 127, row 4095, columns 1024-1087", "11.9 %", "9.13 %", "1,073,741,824", "1,048,576",
		})
	}
	p.Tables = append(p.Tables, wide)
	var page bytes.Buffer
	require.NoError(t, p.Write(&page))
	const measure = `<script>for (const e of document.querySelectorAll(".wide")) document.title += " overflow=" + (e.scrollWidth - e.clientWidth)</script></body>`
	file := filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(page.String(), "</body>", measure, 1)), 0o600))
	for _, width := range []int{1600, 1280, 900} {
		c := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), fmt.Sprintf("--window-size=%d,900", width), "--dump-dom", "file://"+file)
		c.WaitDelay = time.Minute
		dom, err := c.Output()
		require.NoError(t, err)
		assert.Equal(t, 2, strings.Count(string(dom), " overflow=0"), "%d pixels: %s", width, dom[:min(len(dom), 600)])
	}
}
