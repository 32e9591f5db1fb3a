package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/temptest"
)

// buildScript is a build.sh that makes a bin/metalcast; both print what they would on a Mac, or the
// value of PART_* in the environment. Its texts are copied from the commands' real output.
const buildScript = `#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")"
planted() { local name=PART_$1; [ -z "${!name:-}" ] || { eval "${!name}"; exit; }; }
planted "$1"
case $1 in
build)
	mkdir -p bin
	cp build.sh bin/metalcast
	;;
doctor)
	cat <<END
{
  "version": "0.1.0",
  "os": "darwin arm64",
  "platform": "darwin 26.1",
  "processor": "${CHIP:-Apple M4 Max}",
  "cores": 16,
  "hub_cache": "$HOME/.cache/huggingface/hub",
  "metal": {
    "name": "${CHIP:-Apple M4 Max}",
    "unified_memory": true
  }
}
END
	;;
parity)
	for cpu in vector scalar; do
		echo
		printf '{\n  "device": "Apple M4 Max",\n  "cpu": "%s",\n  "elements": 1000,\n  "differences": 0,\n  "rows": [\n    {\n      "kernel": "casts",\n      "elements": 1000,\n      "differences": 0\n    }\n  ]\n}\n' $cpu
	done
	echo "bf16: metal, the CPU's vector code and plain Go wrote the same 10 files, byte for byte"
	;;
demo)
	echo "metalcast: bin/demo/qwen-bf16: 693 tensors in 1 shard, 63 MiB, verified byte by byte" >&2
	echo "metalcast: 0.9 s, 111 MiB/s read and written, peak memory 169 MiB, computed by metal" >&2
	;;
bench)
	cat <<END
{
  "version": "0.1.0",
  "rows": [
    {"group": "kernel", "name": "dequant F8_E4M3 128x128 BF16 -> BF16", "implementation": "metal", "gb_per_second": 401.5, "ratio": 1.25},
    {"group": "conversion", "name": "convert, FP8 to bfloat16", "implementation": "end to end", "gb_per_second": 9.75, "ratio": 0.5}
  ]
}
END
	;;
test)
	echo '{"Action":"run","Package":"m/a","Test":"TestX"}'
	echo '{"Action":"output","Package":"m/a","Test":"TestX","Output":"what passes is not shown\n"}'
	echo '{"Action":"pass","Package":"m/a","Test":"TestX"}'
	echo '{"Action":"skip","Package":"m/a","Test":"TestY"}'
	echo '{"Action":"pass","Package":"m/a"}'
	;;
esac
`

// collected runs a collector in a directory with buildScript and returns the file's text.
func collected(t *testing.T, change func(*collector)) string {
	t.Helper()
	return collectedIn(t, t.Context(), change)
}

func collectedIn(t *testing.T, ctx context.Context, change func(*collector)) string {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		needtest.Skip(t, "system", "no bash: %v", err)
	}
	dir := filepath.Join(temptest.Dir(t), "clone")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "build.sh"), []byte(buildScript), 0o755))
	var log bytes.Buffer
	c := collector{dir: dir, mac: true, mostTime: time.Minute, identity: identify(dir, runtime.GOOS), log: &log}
	if change != nil {
		change(&c)
	}
	require.NoError(t, c.run(ctx))
	text, err := os.ReadFile(c.out)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(text), "\n"+lastLine+"\n"), "the last line says what to do")
	return string(text)
}

func TestReportOfAMac(t *testing.T) {
	text := collected(t, nil)
	assert.True(t, strings.HasPrefix(text, "# metalcast on Apple M4 Max, macOS 26.1\n"), text)
	assert.NotContains(t, text, "FAILED")
	assert.NotContains(t, text, "what passes is not shown")
	for _, line := range []string{
		"| doctor | ok | 0 | Apple M4 Max, macOS 26.1, Metal device Apple M4 Max |",
		"| parity | ok | 0 | 2000 elements, 0 differences |",
		"| demo | ok | 0 | converted and verified in 0.9 s, computed by metal |",
		"| bench | ok | 0 | 2 rows |",
		"| test | ok | 0 | 1 passed, 0 failed, 1 skipped in 1 packages |",
	} {
		assert.Contains(t, text, line)
	}
}

func TestReportOfAnotherMachineSaysSo(t *testing.T) {
	var out string
	text := collected(t, func(c *collector) {
		c.mac = false
		out = filepath.Join(c.dir, "bin", "mac-report-apple-m4-max-macos-26.1-"+time.Now().UTC().Format(time.DateOnly)+".md")
	})
	assert.FileExists(t, out)
	headline, _, _ := strings.Cut(text, "\n")
	assert.Contains(t, headline, "this is no Mac")
	r, err := parse("x", []byte(text))
	require.NoError(t, err)
	assert.False(t, r.Mac)
}

// Whatever a part does, the others follow and its output is in the file.
func TestReportGoesOnAfterEachFailure(t *testing.T) {
	needtest.Alone(t)
	const said = "line 1 of it\n```json\n{\"mac_report\": 1}\n## bench\nthe last line of it"
	failures := map[string]struct{ script, summary string }{
		"ends badly":     {`printf '%s\n' "$SAID"; exit 7`, "exit status 7"},
		"is killed":      {`printf '%s\n' "$SAID" >&2; kill -9 $$`, "signal: killed"},
		"hangs":          {`printf '%s\n' "$SAID"; sleep 600`, "not finished after 1s"},
		"prints no JSON": {`printf '%s\n' "$SAID"`, ""},
	}
	for name, f := range failures {
		for _, part := range []string{"build", "doctor", "parity", "demo", "bench", "test"} {
			if part == "build" && name == "prints no JSON" || name == "hangs" && part != "parity" {
				continue
			}
			t.Run(name+"/"+part, func(t *testing.T) {
				t.Setenv("SAID", said)
				t.Setenv("PART_"+part, f.script)
				text := collected(t, func(c *collector) {
					if name == "hangs" {
						c.mostTime = time.Second
					}
				})
				r, err := parse("x", []byte(text))
				require.NoError(t, err)
				require.Len(t, r.Parts, 6)
				for _, p := range r.Parts {
					if p.Name == part {
						assert.False(t, p.OK)
						assert.Contains(t, p.Summary, f.summary)
						assert.Contains(t, p.Output, said)
						// on a busy machine a second may not be enough for any part
					} else if part != "build" && name != "hangs" {
						assert.True(t, p.OK, "%s: %s", p.Name, p.Summary)
					}
				}
			})
		}
	}
}

// An interrupt ends the running part; the file has the previous parts, and names those that did not
// run.
func TestReportOfWhatWasInterrupted(t *testing.T) {
	t.Setenv("PART_demo", "touch demo-began; sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	text := collectedIn(t, ctx, func(c *collector) {
		go func() {
			for ctx.Err() == nil {
				if _, err := os.Stat(filepath.Join(c.dir, "demo-began")); err == nil {
					cancel()
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
	})
	cancel()
	assert.Contains(t, text, "| parity | ok |")
	assert.Regexp(t, `\| demo \| FAILED \| \d+ \| .*interrupted`, text)
	assert.Regexp(t, `\| test \| FAILED \| \d+ \| .*not run: interrupted`, text)
}

// Failing tests appear in full, with their output; so do packages that do not build, panic or time
// out, and vet's findings.
func TestReportHasFailingTestsInFull(t *testing.T) {
	t.Setenv("EVENTS", `vet: a.go:1: something
{"ImportPath":"m/b","Action":"build-output","Output":"# m/b\nb.go:7: undefined: x\n"}
{"ImportPath":"m/b","Action":"build-fail"}
{"Action":"fail","Package":"m/b","FailedBuild":"m/b"}
{"Action":"output","Package":"m/a","Test":"TestX/sub","Output":"    x_test.go:9: 1 is not 2\n"}
{"Action":"output","Package":"m/a","Test":"TestFine","Output":"noise of a passing test\n"}
{"Action":"pass","Package":"m/a","Test":"TestFine"}
{"Action":"fail","Package":"m/a","Test":"TestX/sub"}
{"Action":"output","Package":"m/a","Test":"TestX","Output":"--- FAIL: TestX\n"}
{"Action":"fail","Package":"m/a","Test":"TestX"}
{"Action":"fail","Package":"m/a"}
{"Action":"output","Package":"m/c","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"output","Package":"m/c","Output":"FAIL m/c 600s\n"}
{"Action":"fail","Package":"m/c"}`)
	t.Setenv("PART_test", `printf '%s\n' "$EVENTS"; exit 1`)
	text := collected(t, nil)
	assert.Contains(t, text, "| test | FAILED | 0 | 1 passed, 4 failed, 0 skipped in 3 packages: m/b, m/a TestX/sub, m/a TestX, m/c; ./build.sh test -json: exit status 1 |")
	for _, want := range []string{"vet: a.go:1: something", "b.go:7: undefined: x", "    x_test.go:9: 1 is not 2", "--- FAIL: TestX", "panic: test timed out", "FAIL m/c 600s"} {
		assert.Contains(t, text, want+"\n")
	}
	assert.NotContains(t, text, "noise of a passing test")
}

// The report can be pasted into an issue, which is limited to 65,536 characters: of parity's
// hundreds of rows only those with differences are included, one per line.
func TestReportHasRowsThatDiffer(t *testing.T) {
	t.Setenv("PART_parity", `cat <<'END'
{
  "device": "Apple M4 Max",
  "elements": 30,
  "differences": 2,
  "rows": [
    {
      "kernel": "casts",
      "input": "F32 -> BF16",
      "elements": 10,
      "differences": 0
    },
    {
      "kernel": "table",
      "input": "codes x scales",
      "elements": 20,
      "differences": 2,
      "first": "element 7"
    }
  ]
}
END
exit 7`)
	text := collected(t, nil)
	assert.Contains(t, text, "30 elements, 2 differences; ./build.sh parity --json: exit status 7")
	assert.Contains(t, text, `"kernel": "table", "input": "codes x scales", "elements": 20, "differences": 2`)
	assert.Contains(t, text, `"equal_rows": 1`)
	assert.NotContains(t, text, "F32 -> BF16")
	r, err := parse("x", []byte(text))
	require.NoError(t, err)
	assert.Equal(t, int64(2), r.facts().differences)
}
