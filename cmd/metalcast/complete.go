package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/metalcast/metalcast"
	"github.com/metalcast/metalcast/internal/synth"
)

// What the shells complete: the values of every flag that has any, and arguments. It runs at every
// press of Tab, so it reads only directories, and prints nothing.

const noFiles = cobra.ShellCompDirectiveNoFileComp

func words(list ...string) cobra.CompletionFunc { return cobra.FixedCompletions(list, noFiles) }

// flagValues are by the flag's name, which means the same in every command. Sizes, numbers and free
// text have no completions.
var flagValues = map[string]cobra.CompletionFunc{
	"device":          words("auto", "metal", "cpu"),
	"dtype":           words("bfloat16", "float16", "float32"),
	"family":          words(synth.Families()...),
	"layout":          words("auto", "stacked", "per-expert", "mlx"),
	"nan-policy":      words("error", "keep"),
	"progress":        words("auto", "json"),
	"q-bits":          byMode(map[string][]string{"": {"2", "3", "4", "5", "6", "8"}, "mxfp4": {"4"}, "mxfp8": {"8"}, "nvfp4": {"4"}}),
	"q-group-size":    byMode(map[string][]string{"": {"32", "64", "128"}, "mxfp4": {"32"}, "mxfp8": {"32"}, "nvfp4": {"16"}}),
	"q-mode":          words("affine", "mxfp4", "mxfp8", "nvfp4"),
	"q-profile":       words("metal", "cpu"),
	"quant-predicate": words("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"),
	"revision":        revisions,
	"scale-type":      words("bfloat16", "float32"),
	"scales":          words(metalcast.TrustScales, metalcast.InvertScales),

	"hf-path":  sources,
	"model":    sources,
	"mlx-path": directories,
	"dir":      directories,
	"html":     anyFile,
}

// arguments are by the command's name; a command that is not listed takes none.
var arguments = map[string][]cobra.CompletionFunc{
	"convert": {sources, directories},
	"plan":    {sources},
	"inspect": {sources},
	"verify":  {sources, checkpoints},
	"synth":   {directories},
	"man":     {directories},
}

// completeWords adds completion to all commands below root.
func completeWords(root *cobra.Command) {
	for _, c := range root.Commands() {
		of := arguments[c.Name()]
		if c.ValidArgsFunction == nil {
			c.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
				if len(args) >= len(of) {
					return nil, noFiles
				}
				return of[len(args)](cmd, args, typed)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal != "" { // takes no value
				return
			}
			values := flagValues[f.Name]
			if values == nil {
				values = cobra.NoFileCompletions
			}
			if err := c.RegisterFlagCompletionFunc(f.Name, values); err != nil {
				panic(err) // registered elsewhere too, but this table is the place for it
			}
		})
	}
}

// byMode has what goes with a --q-mode; "" is the default.
func byMode(values map[string][]string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if list, ok := values[cmd.Flag("q-mode").Value.String()]; ok {
			return list, noFiles
		}
		return values[""], noFiles
	}
}

// revisions returns those that the hub cache has of SRC.
func revisions(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	for _, name := range []string{"hf-path", "model"} {
		if f := cmd.Flag(name); f != nil && f.Value.String() != "" {
			args = []string{f.Value.String()}
		}
	}
	if len(args) == 0 {
		return nil, noFiles
	}
	other := func(revision string) bool { return !strings.HasPrefix(revision, typed) }
	return slices.DeleteFunc(metalcast.CachedRevisions(args[0]), other), noFiles
}

// sources returns directories that are checkpoints or may lead to one, and ids in the hub cache.
func sources(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	list, how := checkpoints(cmd, args, typed)
	for _, id := range metalcast.CachedModels(cmd.Flag("revision").Value.String()) {
		if strings.HasPrefix(id, typed) {
			list, how = append(list, cobra.CompletionWithDesc(id, "hub cache")), noFiles
		}
	}
	return list, how
}

func checkpoints(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return completeDirectory(typed, metalcast.IsCheckpoint)
}

func directories(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return completeDirectory(typed, func(string) bool { return false })
}

func anyFile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// completeDirectory returns the directories whose path starts with what was typed. Those that are
// wanted are whole words; the others continue after a slash.
func completeDirectory(typed string, wanted func(dir string) bool) (list []cobra.Completion, how cobra.ShellCompDirective) {
	folder, begin := filepath.Split(typed)
	real := folder
	switch home, err := os.UserHomeDir(); {
	case typed == "~" || err == nil && filepath.IsAbs(typed) && strings.HasPrefix(typed, home):
		// bash and zsh have replaced ~ by it, and would not find it in what was typed; they expand it.
		return nil, cobra.ShellCompDirectiveFilterDirs
	case err == nil && strings.HasPrefix(folder, "~/"): // as fish leaves it
		real = home + folder[1:]
	case folder == "":
		real = "."
	}
	how = noFiles | cobra.ShellCompDirectiveNoSpace
	if begin == ".." {
		list = append(list, typed+"/")
	}
	entries, _ := os.ReadDir(real)
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, begin) || strings.HasPrefix(name, ".") && begin == "" || plain(name) != name {
			continue
		}
		path := filepath.Join(real, name)
		if st, err := os.Stat(path); err != nil || !st.IsDir() {
			continue
		}
		// An interrupted conversion leaves it.
		if wanted(path) && !strings.HasSuffix(name, ".partial") {
			list, how = append(list, cobra.CompletionWithDesc(folder+name, "checkpoint")), noFiles
		} else {
			list = append(list, folder+name+"/")
		}
	}
	if bare := unquoted.Replace(typed); len(list) == 0 && bare != typed {
		return completeDirectory(bare, wanted)
	}
	return list, how
}

// unquoted removes the quoting of a word: fish passes on what was typed unchanged.
var unquoted = strings.NewReplacer(`\`, "", `'`, "", `"`, "")
