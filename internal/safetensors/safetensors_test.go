package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/fault"
	"github.com/metalcast/metalcast/internal/needtest"
)

// file makes a safetensors file from a header's text and n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func read(b []byte) (*Header, error) { return Read(bytes.NewReader(b), int64(len(b))) }

// refuses requires an error of a kind whose text contains want.
func refuses(t *testing.T, b []byte, kind error, want string) {
	t.Helper()
	_, err := read(b)
	require.ErrorIs(t, err, kind)
	assert.Contains(t, err.Error(), want)
}

func TestReadsTensorsInDataOrder(t *testing.T) {
	h, err := read(file(`{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"__metadata__":{"format":"pt","x":"é"},"a":{"shape":[],"dtype":"F32","data_offsets":[0,4]}}`, 16))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"format": "pt", "x": "é"}, h.Metadata)
	assert.Equal(t, []Tensor{{"a", dtype.F32, []int64{}, 0, 4}, {"b", dtype.BF16, []int64{2, 3}, 4, 16}}, h.Tensors)
}

func TestReadsEveryType(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
	}{
		{"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
		{"I32", 4}, {"U32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U64", 8},
	} {
		h, err := read(file(fmt.Sprintf(`{"a":{"dtype":%q,"shape":[3],"data_offsets":[0,%d]}}`, c.name, 3*c.size), 3*c.size))
		require.NoError(t, err, c.name)
		assert.Equal(t, c.name, h.Tensors[0].DType.String())
	}
}

func TestReadsTrailingSpaces(t *testing.T) {
	h, err := read(file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}     `, 1))
	require.NoError(t, err)
	assert.EqualValues(t, 8+58, h.DataStart)
}

func TestReadsEmptyTensorsAndEmptyFiles(t *testing.T) {
	h, err := read(file(`{"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2))
	require.NoError(t, err)
	assert.Len(t, h.Tensors, 2)
	_, err = read(file(`{}`, 0))
	require.NoError(t, err)
}

const oneByte = `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`

func TestRefusesShortFile(t *testing.T) {
	refuses(t, []byte("abc"), fault.ErrCorrupt, "3 bytes, too short")
}

func TestRefusesHeaderLongerThanFile(t *testing.T) {
	b := file(oneByte, 1)
	refuses(t, b[:30], fault.ErrIncomplete, "header of 53 bytes does not fit the file of 30 bytes: truncated")
}

func TestRefusesHugeHeader(t *testing.T) {
	b := binary.LittleEndian.AppendUint64(nil, 1<<63)
	refuses(t, append(b, oneByte...), fault.ErrCorrupt, "header length is 9223372036854775808 bytes, at most 100000000")
	b = binary.LittleEndian.AppendUint64(nil, MaxHeader+1)
	refuses(t, append(b, oneByte...), fault.ErrCorrupt, "header length is 100000001 bytes")
}

func TestRefusesHeaderThatIsNoObject(t *testing.T) {
	refuses(t, file(`[]`, 0), fault.ErrCorrupt, "does not begin with '{'")
	refuses(t, file(` {}`, 0), fault.ErrCorrupt, "does not begin with '{'")
	refuses(t, file(``, 0), fault.ErrCorrupt, "does not begin with '{'")
}

func TestRefusesBadJSON(t *testing.T) {
	refuses(t, file(`{"a":`, 0), fault.ErrCorrupt, "not valid JSON")
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,01]}}`, 1), fault.ErrCorrupt, "not valid JSON")
	refuses(t, file(`{"a" {}}`, 1), fault.ErrCorrupt, "not valid JSON")
}

func TestRefusesTextAfterHeader(t *testing.T) {
	refuses(t, file(oneByte+"{}", 1), fault.ErrCorrupt, "text follows the header's JSON object at byte")
	refuses(t, file(oneByte+"\x00", 1), fault.ErrCorrupt, "text follows the header's JSON object at byte")
}

func TestRefusesInvalidUTF8(t *testing.T) {
	refuses(t, file("{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1), fault.ErrCorrupt, "invalid UTF-8")
}

func TestRefusesDuplicateTensor(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2),
		fault.ErrCorrupt, `duplicate object member name "a"`)
}

// Names are compared unescaped, whatever their number and position.
func TestRefusesDuplicateTensorAmongMany(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, `"tensor %d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]},`, i, i, i+1)
	}
	for _, name := range []string{"tensor 0", "tensor 500", "tensor 999", `tensor\u0020999`} {
		refuses(t, file("{"+b.String()+`"`+name+`":{"dtype":"U8","shape":[1],"data_offsets":[1000,1001]}}`, 1001),
			fault.ErrCorrupt, `duplicate object member name "tensor `)
	}
	_, err := read(file("{"+b.String()+`"tensor\\u0020999":{"dtype":"U8","shape":[1],"data_offsets":[1000,1001]}}`, 1001))
	require.NoError(t, err)
}

func TestRefusesDuplicateMetadata(t *testing.T) {
	refuses(t, file(`{"__metadata__":{"a":"x","a":"x"}}`, 0), fault.ErrCorrupt, `duplicate object member name "a" within "/__metadata__"`)
	refuses(t, file(`{"__metadata__":{},"__metadata__":{}}`, 0), fault.ErrCorrupt, `duplicate object member name "__metadata__"`)
}

// The error reports the first problem in the text.
func TestDuplicateIsToldInTheOrderOfTheText(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8"},"b":{"x":1}}`, 1), fault.ErrCorrupt, `duplicate object member name "a"`)
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"x":1},"a":{"dtype":"U8"}}`, 1), fault.ErrCorrupt, `tensor "b": unknown key "x"`)
}

// A header's tensors retain only the memory they need, however long their shapes.
func TestLongShapesHoldNoMoreThanTheyNeed(t *testing.T) {
	needtest.Alone(t)
	const n, rank = 20_000, 64
	var b strings.Builder
	shape := strings.Repeat("0,", rank-1) + "0"
	for i := range n {
		fmt.Fprintf(&b, `,"%d":{"dtype":"U8","shape":[%s],"data_offsets":[0,0]}`, i, shape)
	}
	f := file("{"+b.String()[1:]+"}", 0)
	live := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := live()
	h, err := read(f)
	require.NoError(t, err)
	assert.Less(t, live()-before, 2*n*rank*8)
	assert.Len(t, h.Tensors[n-1].Shape, rank)
}

func TestReadsEscapedNames(t *testing.T) {
	for _, name := range []string{`a`, `\\`, `\"`, `a\"`, `\"a`, `a\"b`, `a\\`, `\\a`, `\\\"`, `\"\\`, `\u0022a`, `\u005c`, ``, ` `, `{:,`, `é`} {
		h, err := read(file(`{"`+name+`":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1))
		require.NoError(t, err)
		var want string
		require.NoError(t, json.Unmarshal([]byte(`"`+name+`"`), &want))
		assert.Equal(t, want, h.Tensors[0].Name)
	}
	h, err := read(file(`{"a\"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\"":{"dtype":"U8","shape":[],"data_offsets":[1,2]},"\u00e9":{"dtype":"U8","shape":[2,1],"data_offsets":[2,4]}}`, 4))
	require.NoError(t, err)
	assert.Equal(t, []Tensor{{`a"b`, dtype.U8, []int64{1}, 0, 1}, {`"`, dtype.U8, []int64{}, 1, 2}, {"é", dtype.U8, []int64{2, 1}, 2, 4}}, h.Tensors)
}

func TestRefusesDuplicateKey(t *testing.T) {
	for _, key := range []string{`"shape":[1]`, `"data_offsets":[0,1]`} {
		refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],`+key+`}}`, 1), fault.ErrCorrupt, "duplicate object member name")
	}
	refuses(t, file(`{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `duplicate object member name "dtype"`)
}

func TestRefusesUnknownKey(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1), fault.ErrCorrupt, `tensor "a": unknown key "x"`)
}

func TestRefusesMissingKeys(t *testing.T) {
	refuses(t, file(`{"a":{"shape":[1],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": dtype is missing`)
	refuses(t, file(`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": shape is missing`)
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1]}}`, 1), fault.ErrCorrupt, `tensor "a": data_offsets holds 0 numbers, 2 were expected`)
}

func TestRefusesUnknownType(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": unknown dtype "F7"`)
	refuses(t, file(`{"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": dtype is a number`)
}

func TestRefusesWrongKinds(t *testing.T) {
	refuses(t, file(`{"a":[]}`, 1), fault.ErrCorrupt, `tensor "a": entry is an array, an object was expected`)
	refuses(t, file(`{"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": shape is a number, an array was expected`)
	refuses(t, file(`{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": shape holds a string`)
	refuses(t, file(`{"__metadata__":[]}`, 0), fault.ErrCorrupt, "__metadata__ is an array")
	refuses(t, file(`{"__metadata__":{"format":1}}`, 0), fault.ErrCorrupt, `__metadata__: "format" is a number`)
}

func TestRefusesNegativeAndFractionalNumbers(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": shape holds -1`)
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0.0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": data_offsets holds 0.0`)
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1e0]}}`, 1), fault.ErrCorrupt, `tensor "a": data_offsets holds 1e0`)
}

func TestRefusesOverflowingNumber(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": shape holds 9223372036854775808`)
}

func TestRefusesOverflowingShape(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), fault.ErrCorrupt, `tensor "a": shape [4294967296 4294967296] x F32 overflows`)
	refuses(t, file(`{"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}}`, 0), fault.ErrCorrupt, "overflows")
	refuses(t, file(`{"a":{"dtype":"U8","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`, 0), fault.ErrCorrupt, "overflows") // whatever the order
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1125899906842624,2,0],"data_offsets":[0,0]}}`, 0), fault.ErrCorrupt, "overflows: more than 2^50 elements")
}

func TestRefusesTooManyDimensions(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[`+strings.Repeat("1,", 64)+`1],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": shape holds more than 64 numbers`)
}

func TestRefusesThreeOffsets(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1), fault.ErrCorrupt, `tensor "a": data_offsets holds more than 2 numbers`)
}

func TestRefusesSizeThatIsNotShapeTimesType(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}}`, 20), fault.ErrCorrupt,
		`tensor "a": shape [2 3] x F32 is 24 bytes, data_offsets [0, 20] span 20`)
}

func TestRefusesPartOfAByte(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1), fault.ErrCorrupt, `tensor "a": shape [3] x F4 is no whole number of bytes`)
}

func TestRefusesBackwardOffsets(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), fault.ErrCorrupt, `tensor "a": data_offsets [1, 0] run backwards`)
}

func TestRefusesGap(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}`, 4), fault.ErrCorrupt,
		`tensor "b": data begins at 3, the tensor before it ends at 1: 2 bytes belong to no tensor`)
	refuses(t, file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), fault.ErrCorrupt, "1 bytes belong to no tensor")
}

func TestRefusesOverlap(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), fault.ErrCorrupt,
		`tensor "b": data begins at 1, inside the tensor before it, which ends at 2`)
}

func TestRefusesDataBeyondFile(t *testing.T) {
	refuses(t, file(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 8), fault.ErrIncomplete, `tensor "a": data ends at 9, the file has 8 bytes of data: truncated`)
}

func TestRefusesTrailingBytes(t *testing.T) {
	refuses(t, file(oneByte, 3), fault.ErrCorrupt, "2 bytes follow the last tensor, which ends at 1 of 3")
}

func TestEncodePadsAndReadsBack(t *testing.T) {
	want := []Tensor{
		{"a", dtype.F32, []int64{}, 0, 4},
		{`weird "name" é/`, dtype.BF16, []int64{2, 3}, 4, 16},
		{"c", dtype.F8E4M3, []int64{0}, 16, 16},
	}
	b := Encode(want, "pt", 4096)
	assert.Zero(t, len(b)%4096)
	h, err := read(append(b, make([]byte, 16)...))
	require.NoError(t, err)
	assert.Equal(t, want, h.Tensors)
	assert.Equal(t, map[string]string{"format": "pt"}, h.Metadata)
	assert.EqualValues(t, len(b), h.DataStart)
}

func TestEncodePanicsOnABrokenPlan(t *testing.T) {
	assert.Panics(t, func() { Encode([]Tensor{{"a", dtype.F32, []int64{1}, 4, 8}}, "", 1) })
	assert.Panics(t, func() { Encode([]Tensor{{"a", dtype.U8, []int64{1}, 0, 1}, {"a", dtype.U8, []int64{1}, 1, 2}}, "", 1) })
	assert.Panics(t, func() { Encode([]Tensor{{"__metadata__", dtype.U8, []int64{1}, 0, 1}}, "", 1) })
}

// Files written by the reference library are read correctly. Origin: testdata/README.md.
func TestReadsTheReferenceLibrarysFile(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "safetensors", "reference.safetensors"))
	require.NoError(t, err)
	h, err := read(b)
	require.NoError(t, err)
	var got []string
	for _, x := range h.Tensors {
		got = append(got, x.Name+" "+x.DType.String())
	}
	// Greater types first, then by name: the order of the library's writer.
	assert.Equal(t, []string{"i64 I64", "f32 F32", "scalar F32", "bf16 BF16", "f8 F8_E4M3", "u8 U8"}, got)
	assert.Equal(t, []byte{0, 0x38, 0x7E, 0x80, 0xB8, 0xFE}, b[h.DataStart+h.Tensors[4].Begin:h.DataStart+h.Tensors[4].End])
}

func FuzzRead(f *testing.F) {
	f.Add(file(oneByte, 1))
	for _, header := range []string{
		`{"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"__metadata__":{"a":"b"}}`, `{}`, `{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, `{"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`,
		`{"b":{"data_offsets":[4,8],"shape":[1],"dtype":"F32"},"a":{"dtype":"BF16","shape":[2,1,1],"data_offsets":[0,4]}} `, `{"a":{"dtype":"U8","shape":[9223372036854775807,0],"data_offsets":[0,0]}}`,
		`{"a":{"dtype":"I64","shape":[4294967296,4294967296],"data_offsets":[0,9223372036854775807]}}`, `{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[-0,1]}}`, `{"\u0061":[],"a":{}}`,
	} {
		f.Add(file(header, 8))
		f.Add(file(header, 0))
	}
	f.Add(append(binary.LittleEndian.AppendUint64(nil, 1<<63), oneByte...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := read(b)
		if err != nil {
			var e *fault.Error
			require.ErrorAs(t, err, &e)
			require.NotNil(t, e.Kind)
			require.Less(t, len(err.Error()), 4096)
			require.NotContains(t, err.Error(), "\n")
			return
		}
		var at int64
		for _, x := range h.Tensors { // accepted tensors cover the data exactly
			n, ok := Bytes(x.DType, x.Shape)
			require.True(t, ok)
			require.Equal(t, at, x.Begin)
			require.Equal(t, n, x.Size())
			at = x.End
		}
		require.EqualValues(t, len(b), h.DataStart+at)
		// we accept what we write
		again, err := read(append(Encode(h.Tensors, "", 8), make([]byte, at)...))
		require.NoError(t, err)
		require.Equal(t, h.Tensors, again.Tensors)
	})
}
