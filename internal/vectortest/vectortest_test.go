package vectortest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	cases, err := parse([]byte(`{"version": 1, "cases": [{"name": "a", "op": "cast", "source": {"dtype": "BF16", "shape": [3, 1], "data": [[2, "803f"], [1, "0000"]]},
		"results": [{"dtype": "F32", "mode": "affine", "bits": 4, "group_size": 64, "profile": "cpu", "codes": [[1, "ff"]]}]}]}`))
	require.NoError(t, err)
	require.Equal(t, Rows{0x80, 0x3F, 0x80, 0x3F, 0, 0}, cases[0].Source.Data)
	require.Equal(t, "F32 affine 4/64 cpu", cases[0].Results[0].String())
	require.Equal(t, Rows{0xFF}, cases[0].Results[0].Codes)

	for _, bad := range []string{`{"version": 2}`, `{}`, `{"version": 1, "cases": [{"source": {"data": [[1, "0"]]}}]}`, `{"version": 1, "cases": [{"source": {"data": [["1", "00"]]}}]}`, `[`} {
		_, err := parse([]byte(bad))
		require.Error(t, err, bad)
	}
}
