package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/metalcast/metalcast/internal/fault"
)

// hubLinks is where links of a snapshot in a hub cache may lead, in addition to its repository's
// blobs. Such a blob may itself be one link:
//
//   - to the store of blobs that repositories share, as huggingface_hub makes it since 1.32
//     (utils/_shared_blobs.py): <cache>/blobs/<2 hex>/<64 hex>, where <cache>/blobs is a real
//     directory with huggingface_hub's marker;
//   - to a file of the same name elsewhere, as in a pool on another disk.
//
// Both are followed only for a model id. An id is looked up in the user's own cache, whose links
// huggingface_hub or the user made. A directory may come from anyone, with links of their own.
type hubLinks struct {
	// The repository's blobs, resolved: the directory is itself a link if the cache spans disks.
	blobs  string
	store  string // the shared store; "" where there is none
	byID   bool
	wayOut string // what to specify instead of the directory
}

const (
	storeMarker  = ".huggingface-shared-blobs"
	storeVersion = "1\n"
)

var sharedBlob = regexp.MustCompile(`^[0-9a-f]{64}$`)

// newHubLinks returns nil for a directory that is not a snapshot. root is resolved.
func newHubLinks(root string, byID bool) *hubLinks {
	if filepath.Base(filepath.Dir(root)) != "snapshots" {
		return nil
	}
	repo := filepath.Dir(filepath.Dir(root))
	blobs, err := filepath.EvalSymlinks(filepath.Join(repo, "blobs"))
	if err != nil {
		return nil
	}
	h := &hubLinks{blobs: blobs, byID: byID}
	cache := filepath.Dir(repo)
	if store := filepath.Join(cache, "blobs"); isStore(store) {
		h.store = store
	}
	h.wayOut = wayOut(root, cache)
	return h
}

// wayOut is what to specify instead of a snapshot's directory.
func wayOut(snapshot, cache string) string {
	id, commit := hubIdentity(snapshot)
	if !hubID.MatchString(id) {
		return `download it into a directory of its own, with "hf download --local-dir"`
	}
	hint := fmt.Sprintf("give the model's id, %s --revision %s", id, commit)
	now, err := filepath.Abs(HubCache())
	if err == nil {
		now, err = filepath.EvalSymlinks(now)
	}
	if err != nil || now != cache {
		hint += ", and set HF_HUB_CACHE=" + cache
	}
	return hint
}

// isStore reports whether dir is a shared store made by huggingface_hub, in the known version.
func isStore(dir string) bool {
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		return false
	}
	marker := filepath.Join(dir, storeMarker)
	if st, err := os.Lstat(marker); err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(storeVersion)) {
		return false
	}
	text, err := os.ReadFile(marker)
	return err == nil && string(text) == storeVersion
}

// follow returns the file that an entry of the snapshot means, via its repository's blob.
func (h *hubLinks) follow(entry string) (string, error) {
	out := fault.Corrupt("", "a symbolic link out of the checkpoint's directory").WithHint(
		"replace the link by the file, or give metalcast the directory that holds it")
	if h == nil {
		return "", out
	}
	blob, ok := target(entry)
	if !ok || filepath.Dir(blob) != h.blobs {
		return "", out
	}
	path, ok := target(blob)
	if !ok || filepath.Base(path) != filepath.Base(blob) && !h.shared(path) {
		return "", out
	}
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
		return "", out
	}
	if !h.byID {
		return "", fault.Corrupt("", "a symbolic link out of the checkpoint's directory, to a blob of the hub cache: followed for a model id only").WithHint("%s", h.wayOut)
	}
	return path, nil
}

// target returns where a link leads, one step; its directory is resolved.
func target(link string) (string, bool) {
	to, err := os.Readlink(link)
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(to) {
		// Not Join, which would take ".." as a step back over a link.
		to = filepath.Dir(link) + string(filepath.Separator) + to
	}
	dir, base := filepath.Split(strings.TrimRight(to, string(filepath.Separator)))
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", false
	}
	return filepath.Join(dir, base), true
}

// shared reports whether path is a blob in the shared store.
func (h *hubLinks) shared(path string) bool {
	name := filepath.Base(path)
	return h.store != "" && sharedBlob.MatchString(name) && filepath.Dir(path) == filepath.Join(h.store, name[:2])
}
