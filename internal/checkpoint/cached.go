package checkpoint

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Looks reports whether a directory has the files of a checkpoint, by their names. Only reading
// them shows whether it is one.
func Looks(dir string) bool {
	if st, err := os.Stat(filepath.Join(dir, ConfigName)); err != nil || !st.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(name, ".safetensors") && !strings.HasPrefix(name, "._")
	})
}

// Cached returns the ids in the local hub cache whose snapshot of a revision ("" means main) has
// the files of a checkpoint, sorted. What cannot be read is left out.
func Cached(revision string) (ids []string) {
	entries, _ := os.ReadDir(HubCache())
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "models--")
		id := strings.Replace(name, "--", "/", 1)
		if !ok || !hubID.MatchString(id) {
			continue
		}
		if dir, byID, err := locate(id, revision); err == nil && byID && Looks(dir) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// CachedRevisions returns the branches and tags of a model in the local hub cache, and its commits,
// each sorted.
func CachedRevisions(id string) (revisions []string) {
	if !hubID.MatchString(id) {
		return nil
	}
	repo := filepath.Join(HubCache(), "models--"+strings.ReplaceAll(id, "/", "--"))
	refs := filepath.Join(repo, "refs")
	_ = filepath.WalkDir(refs, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if name, err := filepath.Rel(refs, path); err == nil && plainRevision(filepath.ToSlash(name)) {
				revisions = append(revisions, filepath.ToSlash(name))
			}
		}
		return nil
	})
	commits, _ := os.ReadDir(filepath.Join(repo, "snapshots"))
	for _, e := range commits {
		if plainRevision(e.Name()) {
			revisions = append(revisions, e.Name())
		}
	}
	return revisions
}
