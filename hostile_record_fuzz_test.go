//go:build unix

package metalcast_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast"
	. "github.com/metalcast/metalcast/internal/checkpoint/checkpointtest"
)

// FuzzRecord verifies a sound conversion under any metalcast.json: only the record that the
// conversion wrote passes, or one with other options that give the same bytes.
func FuzzRecord(f *testing.F) {
	parent := ""
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		parent = "/dev/shm"
	}
	parent, err := os.MkdirTemp(parent, "fuzz")
	require.NoError(f, err)
	f.Cleanup(func() { os.RemoveAll(parent) })
	src, dst := Moe(2).Write(f), filepath.Join(parent, "dst")
	_, err = metalcast.Convert(context.Background(), src, dst, metalcast.Options{Device: "cpu"})
	require.NoError(f, err)
	name := filepath.Join(dst, "metalcast.json")
	sound, err := os.ReadFile(name)
	require.NoError(f, err)
	f.Add(sound)
	for _, text := range []string{
		"", "{}", "[]", "null", string(sound) + "x", strings.Repeat("[", 20000), `{"options":{"layout":"mlx"}}`, `{"options":{"layout":"x","max_shard_size":-1}}`, `{"options":{"max_shard_size":9223372036854775807}}`,
		`{"options":{"quantize":{"mode":"affine","bits":99,"group_size":-1,"overrides":["*=none","=","a=1:2:3:4"]}}}`, `{"sha256":{"../x":"y"}}`, `{"unknown":1}`,
		`{"source":{"shards":[{"name":"model.safetensors","bytes":-1}]}}`, `{"options":{"layout":"per-expert","dtype":"float16"}}`, `{"options":{"layout":"stacked","keep_mtp":true,"scales":"trust"}}`,
	} {
		f.Add([]byte(text))
	}
	for _, x := range [][2]string{{`"stacked"`, `"mlx"`}, {"0.1.0", "0.0.9"}, {"5368709120", "1048576"}, {`"header_sha256": "`, `"header_sha256": "0`}, {`"sha256"`, `"findings": [], "sha256"`}, {"{", "{ "}} {
		f.Add(bytes.Replace(sound, []byte(x[0]), []byte(x[1]), 1))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		require.NoError(t, os.WriteFile(name, record, 0o644))
		_, err := metalcast.Verify(context.Background(), src, dst, metalcast.VerifyOptions{Device: "cpu"})
		if bytes.Equal(record, sound) {
			require.NoError(t, err)
		}
		if err == nil {
			require.Equal(t, butOptions(t, sound), butOptions(t, record))
			return
		}
		require.Contains(t, []int{3, 4, 5, 7}, exitKind(err), "%v", err)
		require.NotRegexp(t, Misprint, err.Error())
		require.Less(t, len(err.Error()), 8192)
	})
}

func butOptions(t *testing.T, record []byte) map[string]any {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(record, &m))
	delete(m, "options")
	return m
}
