//go:build unix

package checkpoint_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/temptest"
)

// A blob's name in its repository, and in the shared store.
var etag, xet = strings.Repeat("e7", 32), strings.Repeat("a5", 32)

// sharedCache is a hub cache whose shard has moved into a marked store, <cache>/blobs/a5/<xet>,
// from where the repository's blob links to it.
func sharedCache(t *testing.T) (cache, snapshot string) {
	cache, snapshot = hubCache(t)
	t.Setenv("HF_HUB_CACHE", cache)
	store := filepath.Join(cache, "blobs")
	require.NoError(t, os.MkdirAll(filepath.Join(store, xet[:2]), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(store, ".huggingface-shared-blobs"), []byte("1\n"), 0o444))
	blobs := filepath.Join(cache, "models--org--name", "blobs")
	require.NoError(t, os.Rename(filepath.Join(blobs, "blob-model.safetensors"), filepath.Join(store, xet[:2], xet)))
	link(t, "../../blobs/"+xet[:2]+"/"+xet, filepath.Join(blobs, etag))
	link(t, "../../blobs/"+etag, filepath.Join(snapshot, "model.safetensors"))
	return cache, snapshot
}

// link makes a symbolic link, in place of what was there.
func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		require.ErrorIs(t, err, os.ErrNotExist)
	}
	require.NoError(t, os.Symlink(to, path))
}

func TestFindFollowsSharedBlobs(t *testing.T) {
	_, snapshot := sharedCache(t)
	v, err := checkpoint.Find(t.Context(), "org/name", "", nil)
	require.NoError(t, err)
	s, err := v.OpenSource()
	require.NoError(t, err)
	require.NoError(t, s.Close())

	_, err = checkpoint.Find(t.Context(), snapshot, "", nil) // what anybody may have packed
	require.ErrorIs(t, err, fault.ErrCorrupt)
	require.ErrorContains(t, err, "model.safetensors: a symbolic link out of the checkpoint's directory, to a blob of the hub cache: followed for a model id only")
	assert.Equal(t, "give the model's id, org/name --revision abc123", fault.Hint(err))
	_, err = checkpoint.Find(t.Context(), "org/name", "abc123", nil) // as the hint says
	require.NoError(t, err)
}

// A snapshot of another cache than the environment's is refused with both that it takes.
func TestOpenNamesTheCacheOfSharedBlobs(t *testing.T) {
	cache, snapshot := sharedCache(t)
	real, err := filepath.EvalSymlinks(cache)
	require.NoError(t, err)
	t.Setenv("HF_HUB_CACHE", t.TempDir())
	_, err = checkpoint.Open(t.Context(), snapshot)
	assert.Equal(t, "give the model's id, org/name --revision abc123, and set HF_HUB_CACHE="+real, fault.Hint(err))
}

func TestFindFollowsACacheBehindALink(t *testing.T) {
	cache, _ := sharedCache(t)
	elsewhere := filepath.Join(t.TempDir(), "cache")
	require.NoError(t, os.Symlink(cache, elsewhere))
	t.Setenv("HF_HUB_CACHE", elsewhere)
	_, err := checkpoint.Find(t.Context(), "org/name", "", nil)
	assert.NoError(t, err)
}

func TestFindFollowsAPool(t *testing.T) {
	cache, snapshot := hubCache(t)
	t.Setenv("HF_HUB_CACHE", cache)
	pool, blobs := filepath.Join(t.TempDir(), "disk2"), filepath.Join(cache, "models--org--name", "blobs")
	require.NoError(t, os.Mkdir(pool, 0o755))
	for _, name := range []string{"blob-config.json", "blob-model.safetensors"} {
		require.NoError(t, os.Rename(filepath.Join(blobs, name), filepath.Join(pool, name)))
		link(t, filepath.Join(pool, name), filepath.Join(blobs, name))
	}
	_, err := checkpoint.Find(t.Context(), "org/name", "", nil)
	require.NoError(t, err)
	_, err = checkpoint.Open(t.Context(), snapshot)
	require.ErrorContains(t, err, "followed for a model id only")

	mount := filepath.Join(t.TempDir(), "mnt") // a link on the way to the pool is nothing to mind
	link(t, pool, mount)
	link(t, filepath.Join(mount, "blob-config.json"), filepath.Join(blobs, "blob-config.json"))
	_, err = checkpoint.Find(t.Context(), "org/name", "", nil)
	assert.NoError(t, err)
}

// The files of directories that go along are links too, one level further down.
func TestFindFollowsSharedBlobsOfDirectories(t *testing.T) {
	cache, snapshot := sharedCache(t)
	require.NoError(t, os.Mkdir(filepath.Join(snapshot, "1_Pooling"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(snapshot, "modules.json"), []byte(`[{"path":"1_Pooling"}]`), 0o644))
	other := strings.Repeat("b6", 32)
	require.NoError(t, os.Mkdir(filepath.Join(cache, "blobs", "b6"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(cache, "blobs", "b6", other), []byte("{}"), 0o644))
	link(t, "../../blobs/b6/"+other, filepath.Join(cache, "models--org--name", "blobs", "pooling"))
	link(t, "../../../blobs/pooling", filepath.Join(snapshot, "1_Pooling", "config.json"))
	v, err := checkpoint.Find(t.Context(), "org/name", "", nil)
	require.NoError(t, err)
	assert.Contains(t, v.Files, checkpoint.File{Name: "1_Pooling/config.json", Size: 2})
	f, err := v.OpenFile("1_Pooling/config.json")
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// Whatever else a blob's link leads to is outside, for an id too.
func TestFindRefusesLinksOutOfTheCache(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, cache, blob string){
		"no marker": func(t *testing.T, cache, _ string) {
			require.NoError(t, os.Remove(filepath.Join(cache, "blobs", ".huggingface-shared-blobs")))
		},
		"a marker of another version": func(t *testing.T, cache, _ string) {
			marker := filepath.Join(cache, "blobs", ".huggingface-shared-blobs")
			require.NoError(t, os.Remove(marker))
			require.NoError(t, os.WriteFile(marker, []byte("2\n"), 0o644))
		},
		"a marker without its end": func(t *testing.T, cache, _ string) {
			marker := filepath.Join(cache, "blobs", ".huggingface-shared-blobs")
			require.NoError(t, os.Remove(marker))
			require.NoError(t, os.WriteFile(marker, []byte("1"), 0o644))
		},
		"a marker that is a link": func(t *testing.T, cache, _ string) {
			marker := filepath.Join(cache, "blobs", ".huggingface-shared-blobs")
			require.NoError(t, os.Rename(marker, filepath.Join(cache, "marker")))
			link(t, "../marker", marker)
		},
		"a marker that is a FIFO": func(t *testing.T, cache, _ string) {
			marker := filepath.Join(cache, "blobs", ".huggingface-shared-blobs")
			require.NoError(t, os.Remove(marker))
			require.NoError(t, syscall.Mkfifo(marker, 0o644))
		},
		"a store that is a link": func(t *testing.T, cache, _ string) {
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs"), filepath.Join(cache, "store")))
			link(t, "store", filepath.Join(cache, "blobs"))
		},
		"a directory of the store that is a link": func(t *testing.T, cache, _ string) {
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2]), filepath.Join(cache, "away")))
			link(t, "../away", filepath.Join(cache, "blobs", xet[:2]))
		},
		"another file of the store": func(t *testing.T, cache, blob string) {
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2], xet), filepath.Join(cache, "blobs", xet[:2], xet+".refs")))
			link(t, "../../blobs/"+xet[:2]+"/"+xet+".refs", blob)
		},
		"a file beside the store's directories": func(t *testing.T, cache, blob string) {
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2], xet), filepath.Join(cache, "blobs", xet)))
			link(t, "../../blobs/"+xet, blob)
		},
		"a directory of another hash": func(t *testing.T, cache, blob string) {
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2]), filepath.Join(cache, "blobs", "00")))
			link(t, "../../blobs/00/"+xet, blob)
		},
		"a link in the store": func(t *testing.T, cache, _ string) {
			stored := filepath.Join(cache, "blobs", xet[:2], xet)
			require.NoError(t, os.Rename(stored, filepath.Join(cache, "secret")))
			link(t, "../../secret", stored)
		},
		"a directory in the store": func(t *testing.T, cache, _ string) {
			stored := filepath.Join(cache, "blobs", xet[:2], xet)
			require.NoError(t, os.Remove(stored))
			require.NoError(t, os.Mkdir(stored, 0o755))
		},
		"a FIFO in the store": func(t *testing.T, cache, _ string) {
			stored := filepath.Join(cache, "blobs", xet[:2], xet)
			require.NoError(t, os.Remove(stored))
			require.NoError(t, syscall.Mkfifo(stored, 0o644))
		},
		"another name in a pool": func(t *testing.T, cache, blob string) {
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2], xet), filepath.Join(cache, "id_rsa")))
			link(t, filepath.Join(cache, "id_rsa"), blob)
		},
		"a link in a pool": func(t *testing.T, cache, blob string) {
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2], xet), filepath.Join(cache, "secret")))
			link(t, "secret", filepath.Join(cache, etag))
			link(t, filepath.Join(cache, etag), blob)
		},
		"a directory in a pool": func(t *testing.T, cache, blob string) {
			require.NoError(t, os.Mkdir(filepath.Join(cache, etag), 0o755))
			link(t, filepath.Join(cache, etag), blob)
		},
		"a FIFO in a pool": func(t *testing.T, cache, blob string) {
			require.NoError(t, syscall.Mkfifo(filepath.Join(cache, etag), 0o644))
			link(t, filepath.Join(cache, etag), blob)
		},
		"a snapshot's link to elsewhere": func(t *testing.T, cache, _ string) {
			pool := filepath.Join(cache, "model.safetensors")
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2], xet), pool))
			link(t, pool, filepath.Join(cache, "models--org--name", "snapshots", "abc123", "model.safetensors"))
		},
		"a snapshot's link to a link elsewhere": func(t *testing.T, cache, _ string) {
			require.NoError(t, os.Mkdir(filepath.Join(cache, "pool"), 0o755))
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2], xet), filepath.Join(cache, "pool", etag)))
			link(t, filepath.Join(cache, "pool", etag), filepath.Join(cache, etag))
			link(t, filepath.Join(cache, etag), filepath.Join(cache, "models--org--name", "snapshots", "abc123", "model.safetensors"))
		},
		"another repository's blob": func(t *testing.T, cache, blob string) {
			other := filepath.Join(cache, "models--org--other", "blobs")
			require.NoError(t, os.MkdirAll(other, 0o755))
			require.NoError(t, os.Rename(filepath.Join(cache, "blobs", xet[:2], xet), filepath.Join(other, xet)))
			link(t, "../../models--org--other/blobs/"+xet, blob)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache, _ := sharedCache(t)
			change(t, cache, filepath.Join(cache, "models--org--name", "blobs", etag))
			_, err := checkpoint.Find(t.Context(), "org/name", "", nil)
			require.ErrorIs(t, err, fault.ErrCorrupt)
			require.ErrorContains(t, err, "model.safetensors: a symbolic link out of the checkpoint's directory")
			assert.NotContains(t, err.Error(), "followed")
		})
	}
}

// Nothing but a shell expands ~ and variables, and what sets these variables is often none.
func TestHubCacheExpands(t *testing.T) {
	home := temptest.Dir(t)
	me, err := user.Current()
	require.NoError(t, err)
	for _, test := range []struct{ name, value, want string }{
		{"HF_HOME", "~/hf", home + "/hf/hub"},
		{"HF_HOME", "$HOME/hf", home + "/hf/hub"},
		{"HF_HOME", "${HOME}/$MC_PART", home + "/hf/hub"},
		{"HF_HOME", "~", home + "/hub"},
		{"XDG_CACHE_HOME", "~/.c", home + "/.c/huggingface/hub"},
		{"XDG_CACHE_HOME", "$HOME/.c", home + "/.c/huggingface/hub"},
		{"HF_HUB_CACHE", "~/hf/hub", home + "/hf/hub"},
		{"HF_HUB_CACHE", "$MC_NONE/${MC_NONE}/$/${", "$MC_NONE/${MC_NONE}/$/${"}, // as Python leaves them
		{"HF_HUB_CACHE", "/a~/~b/$$MC_PART", "/a~/~b/$hf"},
		{"HF_HUB_CACHE", "/x/$MC_AGAIN", "/x/$MC_PART"}, // once
		{"HF_HUB_CACHE", "~mc-nobody/x", "~mc-nobody/x"},
		{"HF_HUB_CACHE", "~" + me.Username + "/x", me.HomeDir + "/x"},
		{"HUGGINGFACE_HUB_CACHE", "${HOME}/hf/hub", home + "/hf/hub"},
		{"", "", home + "/.cache/huggingface/hub"},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"} {
				t.Setenv(name, "")
			}
			t.Setenv("HOME", home)
			t.Setenv("MC_PART", "hf")
			t.Setenv("MC_AGAIN", "$MC_PART")
			if test.name != "" {
				t.Setenv(test.name, test.value)
			}
			assert.Equal(t, test.want, checkpoint.HubCache())
		})
	}
}
