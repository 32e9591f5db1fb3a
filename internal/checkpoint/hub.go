package checkpoint

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/metalcast/metalcast/internal/fault"
)

var hubID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Find returns the checkpoint that the user means: that of a directory, or that of a model id
// ("org/name") in the local hub cache at a revision (a branch, a tag or a commit; "" means main).
// Only an id may lead to files outside its repository (see hubLinks). The checkpoint may lack
// tensors that its index names, even whole shards of them, if needless reports that they are of no
// use; they are noted, and listed in Absent. If needless is nil there are none.
func Find(ctx context.Context, src, revision string, needless func(c *Config) func(tensor string) bool) (*Inventory, error) {
	dir, byID, err := locate(src, revision)
	if err != nil {
		return nil, err
	}
	if needless == nil {
		needless = none
	}
	return open(ctx, dir, byID, needless)
}

// locate resolves what the user wrote to a directory, and reports whether it was a model id.
func locate(src, revision string) (dir string, byID bool, err error) {
	if src == "" {
		return "", false, fault.New(fault.ErrUsage, "", "no source")
	}
	if _, err := os.Stat(src); err == nil || !hubID.MatchString(src) || errors.Is(err, fs.ErrPermission) {
		if revision != "" && err == nil {
			return "", false, fault.New(fault.ErrUsage, src, "a directory has no revision; --revision goes with a model id")
		}
		return src, false, nil
	}
	download := "hf download " + src
	if revision == "" {
		revision = "main"
	} else if plainRevision(revision) {
		download += " --revision " + revision
	}
	repo := filepath.Join(HubCache(), "models--"+strings.ReplaceAll(src, "/", "--"))
	hint := `run "` + download + `" first, or give a directory`
	if _, err := os.Stat(repo); err != nil {
		return "", true, fault.Incomplete(src, "neither a directory nor a model in the hub cache %s", HubCache()).WithHint("%s", hint)
	}
	if !plainRevision(revision) {
		return "", true, fault.New(fault.ErrUsage, src, "%q is not a revision", revision)
	}
	commit := revision
	if text, err := os.ReadFile(filepath.Join(repo, "refs", revision)); err == nil {
		commit = strings.TrimSpace(string(text))
	}
	dir = filepath.Join(repo, "snapshots", commit)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", true, fault.Incomplete(src, "revision %s is not in the hub cache %s", revision, HubCache()).WithHint("%s", hint)
	}
	return dir, true, nil
}

func plainRevision(s string) bool {
	for part := range strings.SplitSeq(s, "/") { // branch names may contain slashes
		if !plainName(part) {
			return false
		}
	}
	return true
}

// HubCache returns the directory of the local hub cache. It follows the rules of huggingface_hub
// (constants.py), which expands ~ and variables that no shell has expanded, as in a launchd plist
// or a .env file.
func HubCache() string {
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(name); dir != "" {
			return expand(dir)
		}
	}
	home := os.Getenv("HF_HOME")
	if home == "" {
		base := os.Getenv("XDG_CACHE_HOME")
		if base == "" {
			base = filepath.Join(expand("~"), ".cache")
		}
		home = filepath.Join(base, "huggingface")
	}
	return expand(filepath.Join(expand(home), "hub"))
}

var variable = regexp.MustCompile(`\$(\w+|\{[^}]*\})`)

// expand is Python's os.path.expandvars of os.path.expanduser: a leading ~ or ~user, then $NAME and
// ${NAME}, once; what is unknown stays.
func expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok {
		name, rest, slash := strings.Cut(rest, "/")
		if home, ok := homeOf(name); ok {
			path = strings.TrimRight(home, "/")
			if slash {
				path += "/" + rest
			}
			if path == "" {
				path = "/"
			}
		}
	}
	return variable.ReplaceAllStringFunc(path, func(s string) string {
		if value, ok := os.LookupEnv(strings.Trim(s[1:], "{}")); ok {
			return value
		}
		return s
	})
}

// homeOf returns a user's home directory; "" is the current user.
func homeOf(name string) (string, bool) {
	if home, ok := os.LookupEnv("HOME"); ok && name == "" {
		return home, true
	}
	who, err := user.Current()
	if name != "" {
		who, err = user.Lookup(name)
	}
	if err != nil {
		return "", false
	}
	return who.HomeDir, true
}

// hubIdentity recognises a snapshot by its path: models--org--name/snapshots/commit.
func hubIdentity(dir string) (repo, commit string) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", ""
	}
	name, ok := strings.CutPrefix(filepath.Base(filepath.Dir(filepath.Dir(dir))), "models--")
	if !ok || filepath.Base(filepath.Dir(dir)) != "snapshots" {
		return "", ""
	}
	return strings.ReplaceAll(name, "--", "/"), filepath.Base(dir)
}
