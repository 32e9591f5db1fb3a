//go:build unix

package checkpoint_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/checkpoint"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
	"github.com/metalcast/metalcast/internal/fault"
)

func TestOpenListsEverything(t *testing.T) {
	c := Moe(2)
	c.Shards["model-00002-of-00002.safetensors"] = []Tensor{{Name: "lm_head.weight", DType: "BF16", Shape: []int{1, 4}}}
	c.Shards["model-00001-of-00002.safetensors"] = c.Shards["model.safetensors"]
	delete(c.Shards, "model.safetensors")
	c.Index(nil)
	for name, text := range map[string]string{
		"tokenizer.json": "{}", "LICENSE": "free", "model.py": "pass", ".gitattributes": "x", "._model.safetensors": "x",
		"hf_quant_config.json": "{}", "consolidated.00.pth": "x", "stray.gguf": "x", "model-mtp.safetensors": "x",
	} {
		c.Files[name] = text
	}
	dir := c.Write(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "figures"), 0o755))
	v, err := checkpoint.Open(t.Context(), dir)
	require.NoError(t, err)
	assert.Len(t, v.Tensors, 14)
	assert.Equal(t, "model-00001-of-00002.safetensors", v.Shards[0].Name)
	assert.Equal(t, 1, v.Lookup("lm_head.weight").Shard)
	assert.Nil(t, v.Lookup("nothing"))
	assert.Equal(t, []string{"consolidated.00.pth", "figures/", "hf_quant_config.json", "model-mtp.safetensors", "stray.gguf"}, v.LeftOut)
	var files []string
	for _, f := range v.Files {
		files = append(files, f.Name)
	}
	assert.Equal(t, []string{"LICENSE", "model.py", "tokenizer.json"}, files)
	assert.Empty(t, v.Notes)
}

func TestOpenNotesWhereIndexAndHeadersDiffer(t *testing.T) {
	c := Moe(1)
	shard := c.Shards["model.safetensors"]
	c.Shards = map[string][]Tensor{"a.safetensors": shard[:3], "b.safetensors": shard[3:]}
	c.Index(map[string]string{shard[0].Name: "b.safetensors"})
	c.Files["model.safetensors.index.json"] = strings.Replace(c.Files["model.safetensors.index.json"], `,"`+shard[6].Name+`":"b.safetensors"`, "", 1)
	v, err := checkpoint.Open(t.Context(), c.Write(t))
	require.NoError(t, err)
	require.Len(t, v.Notes, 2)
	assert.Contains(t, v.Notes[0], "places 1 tensors in another shard")
	assert.Contains(t, v.Notes[1], "1 tensors in the shards are not in")
}

func TestOpenRefuses(t *testing.T) {
	numbered := func(c *Checkpoint, names ...string) {
		list := c.Shards["model.safetensors"]
		delete(c.Shards, "model.safetensors")
		for i, n := range names {
			c.Shards[n] = list[i : i+1]
		}
	}
	for name, test := range map[string]struct {
		change func(c *Checkpoint)
		kind   error
		want   string
		hint   string
	}{
		"no config":             {func(c *Checkpoint) { delete(c.Files, "config.json") }, fault.ErrIncomplete, "no config.json", ""},
		"config is no JSON":     {func(c *Checkpoint) { c.Files["config.json"] = "{" }, fault.ErrCorrupt, "config.json: not valid JSON", ""},
		"config is an array":    {func(c *Checkpoint) { c.Files["config.json"] = "[]" }, fault.ErrCorrupt, "config.json: not a JSON object", ""},
		"config has two values": {func(c *Checkpoint) { c.Files["config.json"] = "{}{}" }, fault.ErrCorrupt, "config.json: text follows", ""},
		"config with a BOM":     {func(c *Checkpoint) { c.Files["config.json"] = "\xEF\xBB\xBF{}" }, fault.ErrCorrupt, "config.json: begins with a byte order mark", "UTF-8"},
		"no shard":              {func(c *Checkpoint) { c.Shards = nil }, fault.ErrIncomplete, "no shard", ""},
		"two kinds of shards": {func(c *Checkpoint) {
			c.Shards["model-00001-of-00001.safetensors"] = []Tensor{{Name: "x", DType: "U8", Shape: []int{1}}}
		}, fault.ErrCorrupt, "model.safetensors and 1 numbered shards", ""},
		"numbered set with a gap": {func(c *Checkpoint) {
			numbered(c, "model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors")
		},
			fault.ErrIncomplete, "model-00002-of-00003.safetensors: missing: the set has 3", "hf download"},
		"two numbered sets": {func(c *Checkpoint) {
			numbered(c, "model-00001-of-00001.safetensors", "model-00001-of-00002.safetensors")
		},
			fault.ErrCorrupt, "shards of two sets", ""},
		"index names a missing shard": {func(c *Checkpoint) { c.Index(map[string]string{"x": "model-7.safetensors"}) },
			fault.ErrIncomplete, "model-7.safetensors: missing: model.safetensors.index.json names it", "hf download"},
		"index names a tensor that no shard holds": {func(c *Checkpoint) { c.Index(map[string]string{"x": "model.safetensors"}) },
			fault.ErrIncomplete, `1 of its 14 tensors are in no shard; the first is "x"`, ""},
		"index leads out by a path": {func(c *Checkpoint) { c.Index(map[string]string{"x": "../other/model.safetensors"}) },
			fault.ErrCorrupt, `places tensor "x" in "../other/model.safetensors", which is no file name inside the directory`, ""},
		"index leads out by an absolute path": {func(c *Checkpoint) { c.Index(map[string]string{"x": "/etc/passwd"}) }, fault.ErrCorrupt, "no file name inside", ""},
		"index leads out by a backslash":      {func(c *Checkpoint) { c.Index(map[string]string{"x": `..\model.safetensors`}) }, fault.ErrCorrupt, "no file name inside", ""},
		"index names no file": {func(c *Checkpoint) {
			c.Files[checkpoint.IndexName] = `{"weight_map":{"a":"","b":"model.safetensors"}}`
		}, fault.ErrCorrupt, `places tensor "a" in ""`, ""},
		"index is no JSON": {func(c *Checkpoint) { c.Files[checkpoint.IndexName] = "x" }, fault.ErrCorrupt, "model.safetensors.index.json: not a valid index", ""},
		"index is empty":   {func(c *Checkpoint) { c.Files[checkpoint.IndexName] = "{}" }, fault.ErrCorrupt, "weight_map is missing or empty", ""},
		"index names a tensor twice": {func(c *Checkpoint) {
			c.Files[checkpoint.IndexName] = `{"weight_map":{"a":"model.safetensors","\u0061":"model.safetensors"}}`
		},
			fault.ErrCorrupt, `model.safetensors.index.json: not a valid index: jsontext: duplicate object member name "a" within "/weight_map"`, ""},
		"index has two maps": {func(c *Checkpoint) {
			c.Files[checkpoint.IndexName] = `{"weight_map":{"a":"model.safetensors"},"weight_map":{}}`
		},
			fault.ErrCorrupt, `duplicate object member name "weight_map"`, ""},
		"index has a size twice": {func(c *Checkpoint) {
			c.Files[checkpoint.IndexName] = `{"weight_map":{"a":"model.safetensors"},"metadata":{"total_size":1,"total_size":1}}`
		}, fault.ErrCorrupt, `duplicate object member name "total_size" within "/metadata"`, ""},
		"a tensor in two shards": {func(c *Checkpoint) {
			c.Shards["b.safetensors"] = c.Shards["model.safetensors"][:1]
			// Both shards are in the index.
			c.Index(map[string]string{c.Shards["b.safetensors"][0].Name: "b.safetensors"})
		}, fault.ErrCorrupt, "in b.safetensors and again in model.safetensors", ""},
		"an LFS pointer for a shard": {func(c *Checkpoint) {
			delete(c.Shards, "model.safetensors")
			c.Files["model.safetensors"] = "version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("0", 64) + "\nsize 5368709120\n"
		}, fault.ErrIncomplete, "model.safetensors: 135 bytes, a Git LFS pointer", "git lfs pull"},
		"an LFS pointer for a tokenizer": {func(c *Checkpoint) {
			c.Files["tokenizer.json"] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
		}, fault.ErrIncomplete, "tokenizer.json: ", "git lfs pull"},
		"an empty shard": {func(c *Checkpoint) { c.Shards["model.safetensors"] = nil }, fault.ErrIncomplete, "hold no tensor", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := Moe(2)
			test.change(c)
			_, err := checkpoint.Open(t.Context(), c.Write(t))
			require.ErrorIs(t, err, test.kind)
			assert.Contains(t, err.Error(), test.want)
			assert.Contains(t, fault.Hint(err), test.hint)
		})
	}
}

func TestOpenRefusesTruncatedShard(t *testing.T) {
	dir := Moe(2).Write(t)
	path := filepath.Join(dir, "model.safetensors")
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, st.Size()-5))
	_, err = checkpoint.Open(t.Context(), dir)
	require.ErrorIs(t, err, fault.ErrIncomplete)
	assert.Contains(t, err.Error(), `model.safetensors: tensor "model.language_model.norm.weight": data ends at`)
}

func TestOpenRefusesWhatIsNoDirectory(t *testing.T) {
	_, err := checkpoint.Open(t.Context(), filepath.Join(t.TempDir(), "nothing"))
	require.ErrorIs(t, err, fault.ErrIncomplete)
	assert.Contains(t, err.Error(), "no such directory")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err = checkpoint.Open(t.Context(), file)
	require.ErrorIs(t, err, fault.ErrIncomplete)
	assert.Contains(t, err.Error(), "a file")
}

func TestOpenRefusesLinksOutOfTheDirectory(t *testing.T) {
	dir := Moe(1).Write(t)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("x"), 0o600))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "tokenizer.json")))
	_, err := checkpoint.Open(t.Context(), dir)
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), "tokenizer.json: a symbolic link out of the checkpoint's directory")
}

func TestOpenRefusesFIFO(t *testing.T) {
	dir := Moe(1).Write(t)
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "tokenizer.json"), 0o644))
	_, err := checkpoint.Open(t.Context(), dir) // must not wait for a writer
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), "tokenizer.json: not a regular file")
}

// hubCache lays a checkpoint out as huggingface_hub does: blobs, and snapshots of links to them.
func hubCache(t *testing.T) (cache, snapshot string) {
	src := Moe(1).Write(t)
	cache = t.TempDir()
	repo := filepath.Join(cache, "models--org--name")
	snapshot = filepath.Join(repo, "snapshots", "abc123")
	require.NoError(t, os.MkdirAll(snapshot, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(repo, "blobs"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(repo, "refs"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(repo, "refs", "main"), []byte("abc123\n"), 0o644))
	for _, name := range []string{"config.json", "model.safetensors"} {
		require.NoError(t, os.Rename(filepath.Join(src, name), filepath.Join(repo, "blobs", "blob-"+name)))
		require.NoError(t, os.Symlink("../../blobs/blob-"+name, filepath.Join(snapshot, name)))
	}
	return cache, snapshot
}

func TestFindFindsModelsInTheHubCache(t *testing.T) {
	cache, snapshot := hubCache(t)
	t.Setenv("HF_HUB_CACHE", cache)
	for _, revision := range []string{"", "main", "abc123"} {
		v, err := checkpoint.Find(t.Context(), "org/name", revision, nil)
		require.NoError(t, err)
		assert.Equal(t, snapshot, v.Dir)
	}
	v, err := checkpoint.Open(t.Context(), snapshot)
	require.NoError(t, err)
	assert.Equal(t, "org/name", v.Repo)
	assert.Equal(t, "abc123", v.Revision)
	s, err := v.OpenSource()
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func TestFindFollowsTheCacheRules(t *testing.T) {
	cache, _ := hubCache(t)
	home := t.TempDir()
	require.NoError(t, os.Rename(cache, filepath.Join(home, "hub")))
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", home)
	_, err := checkpoint.Find(t.Context(), "org/name", "", nil)
	require.NoError(t, err)
	t.Setenv("HF_HOME", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	require.NoError(t, os.Symlink(home, filepath.Join(os.Getenv("XDG_CACHE_HOME"), "huggingface")))
	_, err = checkpoint.Find(t.Context(), "org/name", "", nil)
	require.NoError(t, err)
}

func TestFindRefuses(t *testing.T) {
	cache, _ := hubCache(t)
	t.Setenv("HF_HUB_CACHE", cache)
	for _, c := range []struct{ src, revision, want, hint string }{
		{"org/other", "", "neither a directory nor a model in the hub cache", `run "hf download org/other" first, or give a directory`},
		{"org/name", "v2", "revision v2 is not in the hub cache", `run "hf download org/name --revision v2" first, or give a directory`},
		{"org/name", "../../..", "is not a revision", ""},
		{cache, "main", "a directory has no revision", ""},
	} {
		_, err := checkpoint.Find(t.Context(), c.src, c.revision, nil)
		require.Error(t, err, c)
		assert.Contains(t, err.Error(), c.want)
		assert.Equal(t, c.hint, fault.Hint(err))
	}
}

func TestSourceNoticesAShardThatChanged(t *testing.T) {
	dir := Moe(1).Write(t)
	v, err := checkpoint.Open(t.Context(), dir)
	require.NoError(t, err)
	s, err := v.OpenSource()
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, os.Truncate(filepath.Join(dir, "model.safetensors"), 100))
	for _, off := range []int64{90, 700} { // over the end and behind it
		err = s.ReadAt(0, make([]byte, 50), off)
		require.ErrorIs(t, err, fault.ErrIncomplete)
		assert.Contains(t, err.Error(), "model.safetensors: ends at byte 100,")
	}
	_, err = v.OpenSource()
	require.ErrorIs(t, err, fault.ErrCorrupt)
	assert.Contains(t, err.Error(), "100 bytes now")
}

func TestSourceNoticesAShardThatWasWrittenTo(t *testing.T) {
	dir := Moe(1).Write(t)
	path := filepath.Join(dir, "model.safetensors")
	v, err := checkpoint.Open(t.Context(), dir)
	require.NoError(t, err)
	s, err := v.OpenSource()
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Unchanged())
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{1}, 860)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)))
	require.ErrorIs(t, s.Unchanged(), fault.ErrCorrupt)
	assert.ErrorContains(t, s.Unchanged(), "model.safetensors: was written to at")

	b, err := os.ReadFile(path) // another file of the same name, size and time
	require.NoError(t, err)
	st, err := os.Stat(path)
	require.NoError(t, err)
	v, err = checkpoint.Open(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", b, 0o644))
	require.NoError(t, os.Chtimes(path+".new", time.Time{}, st.ModTime()))
	require.NoError(t, os.Rename(path+".new", path))
	_, err = v.OpenSource()
	assert.ErrorContains(t, err, "model.safetensors: was replaced while metalcast was reading")
}

func TestOpenKnowsAnInterruptedDownload(t *testing.T) {
	_, snapshot := hubCache(t)
	require.NoError(t, os.Remove(filepath.Join(snapshot, "..", "..", "blobs", "blob-model.safetensors")))
	_, err := checkpoint.Open(t.Context(), snapshot)
	require.ErrorIs(t, err, fault.ErrIncomplete)
	assert.ErrorContains(t, err, "model.safetensors: a link to a file that is not there")
	assert.Contains(t, fault.Hint(err), "hf download")
}

func TestOpenFollowsACacheThatSpansDisks(t *testing.T) {
	_, snapshot := hubCache(t)
	blobs := filepath.Join(snapshot, "..", "..", "blobs")
	elsewhere := filepath.Join(t.TempDir(), "blobs")
	require.NoError(t, os.Rename(blobs, elsewhere))
	require.NoError(t, os.Symlink(elsewhere, blobs))
	_, err := checkpoint.Open(t.Context(), snapshot)
	require.NoError(t, err)
}

func TestOpenTakesChatTemplatesAlong(t *testing.T) {
	dir := Moe(1).Write(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "additional_chat_templates"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "additional_chat_templates", "tool.jinja"), []byte("x"), 0o644))
	v, err := checkpoint.Open(t.Context(), dir)
	require.NoError(t, err)
	assert.Equal(t, []checkpoint.File{{Name: "additional_chat_templates/tool.jinja", Size: 1}}, v.Files)
}

func TestConfigReadsFlatAndNested(t *testing.T) {
	nested, err := checkpoint.ParseConfig([]byte(`{"model_type":"m","text_config":{"num_experts":4,"quantization_config":{"weight_block_size":[64,32]}}}`))
	require.NoError(t, err)
	assert.EqualValues(t, 4, nested.TextSetting("num_experts").Int())
	sizes, err := nested.BlockSizes()
	require.NoError(t, err)
	assert.Equal(t, [][2]int64{{64, 32}}, sizes)
	flat, err := checkpoint.ParseConfig([]byte(`{"model_type":"m","num_experts":4,"quantization_config":{"weight_block_size":[0]}}`))
	require.NoError(t, err)
	assert.EqualValues(t, 4, flat.TextSetting("num_experts").Int())
	_, err = flat.BlockSizes()
	require.ErrorIs(t, err, fault.ErrCorrupt)
	groups, err := checkpoint.ParseConfig([]byte(`{"quantization_config":{"config_groups":{"a":{"weights":{"block_structure":[64,32]}},
		"b":{"weights":{"block_structure":"128x128"}},"c":{"weights":{"strategy":"channel"}},"d":{"weights":{"block_structure":[64,32]}}}}}`))
	require.NoError(t, err)
	sizes, err = groups.BlockSizes()
	require.NoError(t, err)
	assert.Equal(t, [][2]int64{{64, 32}, {128, 128}}, sizes)
}
