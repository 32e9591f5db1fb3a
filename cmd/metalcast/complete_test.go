package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/temptest"
)

// completions asks the program as a shell does, without descriptions. It says nothing but how it
// ended, which the shells throw away.
func completions(t *testing.T, args ...string) (words []string, how cobra.ShellCompDirective) {
	t.Helper()
	var out, errs bytes.Buffer
	require.Zero(t, run(append([]string{"__completeNoDesc"}, args...), &out, &errs))
	assert.Regexp(t, "^Completion ended with directive: [A-Za-z, ]+\n$", errs.String(), "%v", args)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	n, err := strconv.Atoi(strings.TrimPrefix(lines[len(lines)-1], ":"))
	require.NoError(t, err)
	return lines[:len(lines)-1], cobra.ShellCompDirective(n)
}

// What is completed for a flag of few values is what the program names when it refuses another, and
// nothing is completed by files but what is a file.
func TestEveryFlagCompletes(t *testing.T) {
	src := synthetic(t, "--layers", "1", "--experts", "2")
	converted := filepath.Join(t.TempDir(), "converted")
	require.Zero(t, run([]string{"convert", src, converted, "--quiet", "--device", "cpu"}, io.Discard, io.Discard))
	refusal := regexp.MustCompile(`(?:is not one of|is neither) ([a-z0-9_, -]+?)\n`)
	command := map[string][]string{
		"convert": {src, filepath.Join(t.TempDir(), "dst")}, "plan": {src}, "inspect": {src}, "verify": {src, converted}, "synth": {filepath.Join(t.TempDir(), "src")},
		"bench": {"--size", "2MiB", "--dir", t.TempDir()},
	}
	listed := map[string]bool{}
	for _, c := range newRoot(newUI(io.Discard, io.Discard)).Commands() {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal != "" {
				return
			}
			words, how := completions(t, c.Name(), "--"+f.Name, "")
			switch f.Name {
			case "html":
				assert.Equal(t, cobra.ShellCompDirectiveDefault, how)
			case "mlx-path", "dir", "model", "hf-path":
				assert.NotZero(t, how&noFiles, "%s --%s", c.Name(), f.Name)
				return
			default:
				assert.Equal(t, noFiles, how, "%s --%s", c.Name(), f.Name)
			}
			if len(words) == 0 || f.Value.Type() == "int" || f.Name == "family" {
				return
			}
			args := append([]string{c.Name(), "--" + f.Name, "nosuch"}, command[c.Name()]...)
			if strings.HasPrefix(f.Name, "q") {
				args = append(args, "-q")
			}
			var errs bytes.Buffer
			require.Equal(t, exitUsage, run(args, io.Discard, &errs), "%v: %s", args, &errs)
			m := refusal.FindStringSubmatch(errs.String())
			if assert.NotNil(t, m, "%s --%s: %s", c.Name(), f.Name, &errs) {
				named := strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' })
				named = slices.DeleteFunc(named, func(w string) bool { return w == "nor" || w == "or" })
				assert.ElementsMatch(t, named, words, "%s --%s", c.Name(), f.Name)
				listed[f.Name] = true
			}
		})
	}
	for _, name := range []string{"device", "dtype", "layout", "nan-policy", "progress", "q-mode", "q-profile", "quant-predicate", "scale-type", "scales"} {
		assert.True(t, listed[name], "--%s has values", name)
	}
}

// Bits and groups go with the mode: what is completed is taken, what is not is refused.
func TestFormatsComplete(t *testing.T) {
	src := synthetic(t, "--layers", "1", "--experts", "2")
	modes, _ := completions(t, "plan", "--q-mode", "")
	require.Len(t, modes, 4)
	for _, mode := range modes {
		bits, _ := completions(t, "plan", "--q-mode", mode, "--q-bits", "")
		groups, _ := completions(t, "plan", "--q-mode="+mode, "--q-group-size", "")
		require.NotEmpty(t, groups)
		for _, x := range []struct {
			flag    string
			offered []string
			all     []string
		}{{"--q-bits", bits, []string{"2", "3", "4", "5", "6", "7", "8"}}, {"--q-group-size", groups, []string{"8", "16", "32", "64", "128", "256"}}} {
			for _, value := range x.all {
				want := exitUsage
				if slices.Contains(x.offered, value) {
					want = exitOK
				}
				assert.Equal(t, want, run([]string{"plan", src, "-q", "--q-mode", mode, x.flag, value}, io.Discard, io.Discard), "%s %s %s", mode, x.flag, value)
			}
		}
	}
}

// hubWith is a hub cache with a checkpoint under each id, beside what is no checkpoint, and a
// working directory with other things.
func hubWith(t *testing.T, ids ...string) {
	t.Helper()
	hub := filepath.Join(temptest.Dir(t), "hub")
	t.Setenv("HF_HUB_CACHE", hub)
	t.Setenv("HOME", temptest.Dir(t))
	file := func(parts ...string) {
		path := filepath.Join(parts...)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("{ no JSON"), 0o644)) // nothing is read
	}
	for _, id := range ids {
		repo := filepath.Join(hub, "models--"+strings.ReplaceAll(id, "/", "--"))
		file(repo, "snapshots", "0123abcd", "config.json")
		file(repo, "snapshots", "0123abcd", "model-00001-of-00002.safetensors")
		require.NoError(t, os.MkdirAll(filepath.Join(repo, "refs", "pr"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(repo, "refs", "main"), []byte("0123abcd"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(repo, "refs", "pr", "1"), []byte("4567"), 0o644))
	}
	file(hub, "models--org--tokenizer", "snapshots", "89", "config.json")
	file(hub, "models--org--tokenizer", "refs", "main")
	file(hub, "datasets--org--data", "snapshots", "89", "config.json")
	file(hub, "models--nothing", "x")
	file(hub, ".locks", "x")

	t.Chdir(temptest.Dir(t))
	for _, dir := range []string{"qwen-fp8", "my models/deep one", "models/deep", "models/.hidden", "out.partial", "a\nb"} {
		file(dir, "config.json")
		file(dir, "model.safetensors")
	}
	file("empty", "notes.txt")
	file("gguf", "config.json")
	file("qwen.txt")
	file("error.html")
	require.NoError(t, os.Symlink("models/deep", "link"))
	require.NoError(t, os.Symlink("nothing", "broken"))
}

func TestSourcesComplete(t *testing.T) {
	hubWith(t, "org/model-FP8", "qwen/Qwen3-FP8")
	for _, test := range []struct {
		args  string // with commas between them
		words string // with bars
		how   cobra.ShellCompDirective
	}{
		{"plan,", "empty/|gguf/|link|models/|my models/|out.partial/|qwen-fp8|org/model-FP8|qwen/Qwen3-FP8", noFiles},
		{"inspect,q", "qwen-fp8|qwen/Qwen3-FP8", noFiles},
		{"convert,qwen/", "qwen/Qwen3-FP8", noFiles},
		{"convert,--hf-path,org/m", "org/model-FP8", noFiles},
		{"convert,--model=qwen-", "qwen-fp8", noFiles},
		{"plan,mod", "models/", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"plan,models/", "models/deep", noFiles},
		{"plan,models/.", "models/.hidden", noFiles},
		{"plan,./models/d", "./models/deep", noFiles},
		{"plan,my models/", "my models/deep one", noFiles},
		{"plan,..", "../", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"plan,nothing", "", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"plan,nowhere/at/all", "", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"plan,~", "", cobra.ShellCompDirectiveFilterDirs},
		{"plan,qwen-fp8,", "", noFiles},
		{"plan,--revision,no,o", "out.partial/", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"plan,org/model-FP8,--revision,", "main|pr/1|0123abcd", noFiles},
		{"convert,--hf-path,org/model-FP8,--revision,p", "pr/1", noFiles},
		{"plan,../x/y,--revision,", "", noFiles},
		{"verify,o", "out.partial/|org/model-FP8", noFiles},
		{"verify,org/model-FP8,o", "out.partial/", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"verify,org/model-FP8,q", "qwen-fp8", noFiles},
		{"verify,a,b,", "", noFiles},
		{"convert,qwen-fp8,m", "models/|my models/", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"convert,-q,--scales,trust,qw", "qwen-fp8|qwen/Qwen3-FP8", noFiles},
		{"synth,q", "qwen-fp8/", noFiles | cobra.ShellCompDirectiveNoSpace},
		{"doctor,", "", noFiles},
	} {
		words, how := completions(t, strings.Split(test.args, ",")...)
		assert.Equal(t, test.words, strings.Join(words, "|"), test.args)
		assert.Equal(t, test.how, how, test.args)
	}
	home := os.Getenv("HOME")
	_, how := completions(t, "plan", home+"/x")
	assert.Equal(t, cobra.ShellCompDirectiveFilterDirs, how, "it may have been a ~")
	require.NoError(t, os.MkdirAll(filepath.Join(home, "models"), 0o755))
	words, _ := completions(t, "plan", "~/m")
	assert.Equal(t, []string{"~/models/"}, words)
	t.Setenv("HF_HUB_CACHE", filepath.Join(home, "none"))
	words, _ = completions(t, "plan", "org")
	assert.Empty(t, words)
}
