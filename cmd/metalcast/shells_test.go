//go:build unix

package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/temptest"
)

// shell is one that a person types into.
type shell struct {
	t    *testing.T
	pty  *os.File
	read chan string
	seen strings.Builder
}

const prompt = "READY> "

// bashCompletion is where the package bash-completion lies, on Debian and with Homebrew.
var bashCompletion = []string{"/usr/share/bash-completion/bash_completion", "/opt/homebrew/share/bash-completion/bash_completion", "/usr/local/share/bash-completion/bash_completion"}

// shells are started with the completion of metalcast and a prompt of the test's, and with nothing
// of the user's.
var shells = map[string]func(t *testing.T, home string) []string{
	"bash": func(t *testing.T, home string) []string {
		for _, path := range bashCompletion {
			if _, err := os.Stat(path); err == nil {
				rc := filepath.Join(home, "rc")
				text := fmt.Sprintf("PS1='%s'\nbind 'set enable-bracketed-paste off'\nbind 'set page-completions off'\nbind 'set completion-query-items 0'\n. %s\n. <(metalcast completion bash)\n", prompt, path)
				require.NoError(t, os.WriteFile(rc, []byte(text), 0o600))
				return []string{"--noprofile", "--rcfile", rc, "-i"}
			}
		}
		needtest.Skip(t, "shells", "no bash-completion")
		return nil
	},
	"zsh": func(t *testing.T, home string) []string {
		t.Setenv("ZDOTDIR", home)
		text := fmt.Sprintf("PS1='%s'\nLISTMAX=1000\nunsetopt prompt_sp\nautoload -U compinit\ncompinit -u -d %s/dump\nsource <(metalcast completion zsh)\n", prompt, home)
		require.NoError(t, os.WriteFile(filepath.Join(home, ".zshrc"), []byte(text), 0o600))
		return []string{"--no-globalrcs", "-i"}
	},
	"fish": func(t *testing.T, home string) []string {
		return []string{"--no-config", "-i", "-C", fmt.Sprintf("function fish_prompt; echo -n '%s'; end; set -g fish_greeting; set -g fish_autosuggestion_enabled 0; metalcast completion fish | source", prompt)}
	},
}

// startShell starts a shell in which "metalcast" completes as the program does, and shows its
// arguments when it is run.
func startShell(t *testing.T, name string) *shell {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		needtest.Skip(t, "shells", "no %s", name)
	}
	real, err := exec.LookPath("metalcast")
	require.NoError(t, err)
	bin, home := temptest.Dir(t), os.Getenv("HOME")
	script := "#!/bin/sh\ncase $1 in __complete*|completion) exec '" + real + "' \"$@\" ;; esac\nprintf 'RAN'\nfor word; do printf ' [%s]' \"$word\"; done\nprintf ' %s\\n' END\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "metalcast"), []byte(script), 0o700))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("XDG_DATA_HOME", home)
	t.Setenv("TERM", "xterm")
	t.Setenv("LC_ALL", "C.UTF-8")
	c := exec.Command(program, shells[name](t, home)...)
	master, err := pty.StartWithSize(c, &pty.Winsize{Rows: 50, Cols: 200})
	require.NoError(t, err)
	s := &shell{t: t, pty: master, read: make(chan string)}
	t.Cleanup(func() { _ = c.Process.Kill(); master.Close(); _ = c.Wait() })
	go func() {
		defer close(s.read)
		p := make([]byte, 4096)
		for {
			n, err := master.Read(p)
			if err != nil {
				return
			}
			s.read <- string(p[:n])
		}
	}()
	s.wait(regexp.MustCompile(regexp.QuoteMeta(prompt)))
	return s
}

// wait reads what the shell shows until it fits.
func (s *shell) wait(want *regexp.Regexp) string {
	s.t.Helper()
	s.seen.Reset()
	late := time.After(patience)
	for !want.MatchString(s.seen.String()) {
		select {
		case text, ok := <-s.read:
			require.True(s.t, ok, "the shell has ended: %q", &s.seen)
			s.seen.WriteString(text)
		case <-late:
			require.FailNow(s.t, "the shell does not show it", "%s in %q", want, &s.seen)
		}
	}
	return s.seen.String()
}

var ran = regexp.MustCompile(`RAN(.*) END\r?\n(?s:.*)READY> `)

// words types a line, in which \t is the Tab key, and gives the words that the program was called
// with.
func (s *shell) words(line string) string {
	s.t.Helper()
	_, err := s.pty.WriteString(line + "\r")
	require.NoError(s.t, err)
	return strings.TrimSpace(ran.FindStringSubmatch(s.wait(ran))[1])
}

// The real shells complete values of flags and sources, and quote what they must.
func TestShellsComplete(t *testing.T) {
	needtest.Alone(t)
	for name := range shells {
		t.Run(name, func(t *testing.T) {
			hubWith(t, "org/model-FP8", "qwen/Qwen3-FP8")
			here, err := os.Getwd()
			require.NoError(t, err)
			home := os.Getenv("HOME")
			require.NoError(t, os.Mkdir(filepath.Join(home, "home models"), 0o755))
			s := startShell(t, name)
			for line, want := range map[string]string{
				"convert --q-mode nv\t":                 "[convert] [--q-mode] [nvfp4]",
				"convert --q-mode=mxfp8\t":              "[convert] [--q-mode=mxfp8]",
				"plan --dtype b\t":                      "[plan] [--dtype] [bfloat16]",
				"convert --dtype=floa\t16":              "[convert] [--dtype=float16]",
				"verify --layout p\t":                   "[verify] [--layout] [per-expert]",
				"convert --device me\t":                 "[convert] [--device] [metal]",
				"plan --quant-predicate mixed_2\t":      "[plan] [--quant-predicate] [mixed_2_6]",
				"plan --scales inv\t":                   "[plan] [--scales] [invert]",
				"convert --nan-policy k\t":              "[convert] [--nan-policy] [keep]",
				"synth --family lla\t":                  "[synth] [--family] [llama4]",
				"plan --q-mode nvfp4 --q-group-size \t": "[plan] [--q-mode] [nvfp4] [--q-group-size] [16]",
				"convert org/m\tout":                    "[convert] [org/model-FP8] [out]",
				"convert qwen-\tout":                    "[convert] [qwen-fp8] [out]",
				"plan qwen/\t":                          "[plan] [qwen/Qwen3-FP8]",
				"inspect models/d\t":                    "[inspect] [models/deep]",
				"inspect mod\td\t":                      "[inspect] [models/deep]",
				`inspect my\ models/d` + "\t":           "[inspect] [my models/deep one]",
				"verify org/m\tqwen-\t":                 "[verify] [org/model-FP8] [qwen-fp8]",
				"convert --hf-path org/m\t":             "[convert] [--hf-path] [org/model-FP8]",
				"plan org/model-FP8 --revision p\t":     "[plan] [org/model-FP8] [--revision] [pr/1]",
				"plan qwen.\t":                          "[plan] [qwen.]",
				"convert --q-mode q\t":                  "[convert] [--q-mode] [q]",
				"convert --max-memory q\t":              "[convert] [--max-memory] [q]",
				"plan ~/ho\t":                           "[plan] [" + home + "/home models]",
				"plan " + here + "/qwen-\t":             "[plan] [" + here + "/qwen-fp8]",
				"ins\tqwen-\t":                          "[inspect] [qwen-fp8]",
				"help conv\t":                           "[help] [convert]",
				"verify a b --html err\t":               "[verify] [a] [b] [--html] [error.html]",
			} {
				if len(line)%len(shells) != slices.Index(slices.Sorted(maps.Keys(shells)), name) && !needtest.Long() {
					continue // another shell has this one
				}
				// Zsh takes a slash away before the line's end.
				got := strings.ReplaceAll(s.words("metalcast "+line), "/]", "]")
				assert.Equal(t, want, got, "%q", line)
			}
			for line, want := range map[string]string{ // where there are several all are shown, and no file
				"convert --q-mode \t\t": `affine\s+.*mxfp4\s+.*mxfp8\s+.*nvfp4`, "convert --device \t\t": `auto\s+.*cpu\s+.*metal`, "plan qwen\t\t": `qwen-fp8 .*checkpoint.*\s+.*qwen/Qwen3-FP8 .*hub cache`,
			} {
				_, err := s.pty.WriteString("metalcast " + line)
				require.NoError(t, err)
				assert.NotContains(t, s.wait(regexp.MustCompile("(?s)"+want)), "qwen.txt", "%q", line)
				s.words("\x15metalcast") // without what was typed
			}
		})
	}
}
