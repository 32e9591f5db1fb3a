package checkpointtest

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var scaleName = regexp.MustCompile(`(weight_scale(_inv)?|proj_scale_inv|proj_weight_scale|[a-z0-9]\.scale)$`)

type HeaderEntry struct {
	DType   string `json:"dtype"`
	Offsets [2]int `json:"data_offsets"`
}

// HeaderOf reads a shard's header naively.
func HeaderOf(t *testing.T, shard []byte) map[string]HeaderEntry {
	t.Helper()
	header := map[string]HeaderEntry{}
	require.NoError(t, json.Unmarshal(shard[8:8+binary.LittleEndian.Uint64(shard)], &header))
	delete(header, "__metadata__")
	return header
}

// RewriteScales makes the scales of a checkpoint powers of two, whose biased exponents it gives
// from those that are there, and counts their tensors.
func RewriteScales(t *testing.T, dir string, exponent func(name string, e int) int) (n int) {
	t.Helper()
	shards, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	require.NoError(t, err)
	for _, path := range shards {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		length := binary.LittleEndian.Uint64(b)
		for name, x := range HeaderOf(t, b) {
			if !scaleName.MatchString(name) {
				continue
			}
			n++
			data := b[8+length:][x.Offsets[0]:x.Offsets[1]]
			switch x.DType {
			case "BF16":
				for k := 0; k < len(data); k += 2 {
					e := int(binary.LittleEndian.Uint16(data[k:])) >> 7 & 255
					binary.LittleEndian.PutUint16(data[k:], uint16(exponent(name, e)<<7))
				}
			case "F32":
				for k := 0; k < len(data); k += 4 {
					e := int(binary.LittleEndian.Uint32(data[k:])) >> 23 & 255
					binary.LittleEndian.PutUint32(data[k:], uint32(exponent(name, e))<<23)
				}
			default:
				for k := range data {
					data[k] = byte(exponent(name, int(data[k])))
				}
			}
		}
		require.NoError(t, os.WriteFile(path, b, 0o644))
	}
	return n
}
