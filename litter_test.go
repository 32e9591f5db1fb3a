package metalcast_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
)

// A look with the Finder, attributes on a foreign disk, and what a volume's root holds are no
// difference; anything else is, by whatever name.
func TestVerifyOverlooksWhatMacOSLeaves(t *testing.T) {
	src := RandomMoe(2, 64, 48, 1).Write(t)
	dst := filepath.Join(t.TempDir(), "dst")
	require.NoError(t, os.Mkdir(dst, 0o755))
	put := func(name string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dst, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dst, name), []byte("Bud1"), 0o644))
	}
	put(".DS_Store")
	put("._.")
	_, err := metalcast.Convert(t.Context(), src, dst, metalcast.Options{Device: "cpu"})
	require.NoError(t, err, "such a directory is empty")
	assert.NoFileExists(t, filepath.Join(dst, ".DS_Store"))
	clean, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.NoError(t, err)
	for _, name := range []string{".DS_Store", "._.DS_Store", "._model.safetensors", "._config.json", ".fseventsd/0001", ".Spotlight-V100/Store/x", ".Trashes/501/old"} {
		put(name)
	}
	r, err := metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.NoError(t, err)
	assert.Empty(t, r.Problems)
	assert.Equal(t, clean.Sums, r.Sums)
	for _, name := range []string{"Icon\r", ".localized", ".DS_Store2", "_model.safetensors", ".Trashes2/x", "sub/.Trashes/x", "sub/y"} {
		put(name)
		r, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
		require.ErrorIs(t, err, metalcast.ErrMismatch, "%q", name)
		assert.Equal(t, []string{name + ": is in no plan of this conversion"}, r.Problems)
		require.NoError(t, os.Remove(filepath.Join(dst, name)))
	}
	put("sub/.DS_Store")
	_, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dst, ".DS_Store")))
	require.NoError(t, os.Mkdir(filepath.Join(dst, ".DS_Store"), 0o755))
	put(".DS_Store/hidden")
	r, err = metalcast.Verify(t.Context(), src, dst, metalcast.VerifyOptions{})
	require.ErrorIs(t, err, metalcast.ErrMismatch, "a directory is no litter")
	assert.Equal(t, []string{".DS_Store/hidden: is in no plan of this conversion"}, r.Problems)
}
