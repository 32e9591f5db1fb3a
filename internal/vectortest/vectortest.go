// Package vectortest reads docs/parity-vectors/vectors.json: inputs of conversions and the
// resulting bits, computed by code other than metalcast's. README.md beside that file describes its
// fields; the types here use the same names.
package vectortest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// version is the version that the tests know.
const version = 1

// Case is a matrix and the results of converting it.
type Case struct {
	Name    string
	Op      string // dequantize, cast, add_one or quantize
	Source  Matrix
	Scales  *Scales // scales of FP8 codes
	Results []Result
}

// Matrix has rows and columns of a type that safetensors calls DType.
type Matrix struct {
	DType string
	Shape [2]int
	Data  Rows
}

// Scales are the scales of a matrix of codes.
type Scales struct {
	Matrix
	Block [2]int
	Use   string // multiply or divide
}

// Result has Values or, for quantize, Codes, Scales and in affine mode Biases.
type Result struct {
	DType     string
	Mode      string
	Bits      int
	GroupSize int `json:"group_size"`
	Profile   string

	Values, Codes, Scales, Biases Rows
}

// String returns the name of a result within its case.
func (r *Result) String() string {
	if r.Mode == "" {
		return r.DType
	}
	return fmt.Sprintf("%s %s %d/%d %s", r.DType, r.Mode, r.Bits, r.GroupSize, r.Profile)
}

// Rows has little-endian elements, row by row. In the file it is [[times, hex], ...].
type Rows []byte

// UnmarshalJSON unpacks the form used in the file.
func (r *Rows) UnmarshalJSON(data []byte) error {
	var lines []json.RawMessage
	if err := json.Unmarshal(data, &lines); err != nil {
		return err
	}
	for _, line := range lines {
		var times int
		var digits string
		if err := json.Unmarshal(line, &[]any{&times, &digits}); err != nil {
			return err
		}
		row, err := hex.DecodeString(digits)
		if err != nil {
			return err
		}
		for range times {
			*r = append(*r, row...)
		}
	}
	return nil
}

// Load reads the file in the module that contains the running test.
func Load(t testing.TB) []Case {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, there := os.Stat(filepath.Join(dir, "go.mod")); there == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	data, err := os.ReadFile(filepath.Join(dir, "docs", "parity-vectors", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	cases, err := parse(data)
	if err != nil {
		t.Fatalf("docs/parity-vectors/vectors.json: %v", err)
	}
	return cases
}

func parse(data []byte) ([]Case, error) {
	var file struct {
		Version int
		Cases   []Case
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	if file.Version != version {
		return nil, fmt.Errorf("version %d, the tests know %d", file.Version, version)
	}
	return file.Cases, nil
}
