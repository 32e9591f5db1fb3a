package checkpoint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/metalcast/metalcast/internal/fault"
)

var hubID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Locate turns what the user wrote into a directory: a path as it is, or a model id ("org/name") found in the local hub cache at a revision
// (a branch, a tag or a commit; "" means main).
func Locate(src, revision string) (string, error) {
	if src == "" {
		return "", fault.New(fault.ErrUsage, "", "no source")
	}
	if _, err := os.Stat(src); err == nil || !hubID.MatchString(src) {
		if revision != "" && err == nil {
			return "", fault.New(fault.ErrUsage, src, "a directory has no revision; --revision goes with a model id")
		}
		return src, nil
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
		return "", fault.Incomplete(src, "neither a directory nor a model in the hub cache %s", HubCache()).WithHint("%s", hint)
	}
	if !plainRevision(revision) {
		return "", fault.New(fault.ErrUsage, src, "%q is not a revision", revision)
	}
	commit := revision
	if text, err := os.ReadFile(filepath.Join(repo, "refs", revision)); err == nil {
		commit = strings.TrimSpace(string(text))
	}
	dir := filepath.Join(repo, "snapshots", commit)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", fault.Incomplete(src, "revision %s is not in the hub cache %s", revision, HubCache()).WithHint("%s", hint)
	}
	return dir, nil
}

func plainRevision(s string) bool {
	for part := range strings.SplitSeq(s, "/") { // branch names may hold slashes
		if !plainName(part) {
			return false
		}
	}
	return true
}

// HubCache is the directory of the local hub cache. It follows the rules of huggingface_hub (constants.py).
func HubCache() string {
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(name); dir != "" {
			return dir
		}
	}
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return filepath.Join(dir, "hub")
	}
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, _ := os.UserHomeDir()
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "huggingface", "hub")
}

// hubIdentity recognises a snapshot by its place: models--org--name/snapshots/commit.
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
