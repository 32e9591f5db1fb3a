package mlxquant

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/metalcast/metalcast/internal/dtype"
	"github.com/metalcast/metalcast/internal/needtest"
	"github.com/metalcast/metalcast/internal/vectortest"
	"github.com/stretchr/testify/require"
)

// metalKernels compiles the text of MLX's Metal kernels as C++ and returns a function that runs the
// program on a directory of inputs, with a line for each that kernels.cpp describes.
func metalKernels(t *testing.T) (run func(dir, list string)) {
	t.Helper()
	if !needtest.Long() {
		t.Skip("compiling the kernels takes long (METALCAST_LONG=1 runs it)")
	}
	out, err := exec.CommandContext(t.Context(), python(t), "-c", "import mlx.core; print(mlx.__path__[0])").Output()
	require.NoError(t, err)
	// GCC, or clang, with its own library on a Mac
	cxx := strings.Fields(cmp.Or(os.Getenv("CXX"), "c++"))
	if _, err := exec.LookPath(cxx[0]); err != nil {
		needtest.Skip(t, "consumers", "no C++ compiler: %v; CXX names one", err)
	}
	dir := t.TempDir()
	headers := filepath.Join(strings.TrimSpace(string(out)), "include/mlx/backend/metal/kernels")
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(headers, name))
		require.NoError(t, err)
		return string(b)
	}
	save := func(name string, parts ...string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(parts, "\n")), 0o600))
	}
	cut := func(text, pattern string) string {
		s := regexp.MustCompile(`(?ms)^template[^\n]*\n[^\n]*\b` + pattern + `.*?^\}[^\n]*\n`).FindString(text)
		require.NotEmpty(t, s, pattern)
		return s
	}
	q, fp := text("quantized.h"), text("fp_quantized.h")
	save("mlx_affine.h", cut(q, `get_pack_factor`), cut(q, `get_bytes_per_pack`), cut(q, `affine_quantize\(`))
	plain := func(s string) string { return strings.ReplaceAll(s, "#pragma once", "") }
	save("mlx_fp.h", plain(text("fp4.h")), plain(text("fp8.h")), cut(fp, `struct Quantize\b`), cut(fp, `struct Dequantize\b`),
		cut(fp, `fp_quantize\(`), cut(fp, `fp_dequantize\(`))
	program := filepath.Join(dir, "kernels")
	args := append(cxx[1:], "-std=c++20", "-O1", "-w", "-ffp-contract=off", "-I", dir, "-o", program, "testdata/kernels.cpp")
	b, err := exec.CommandContext(t.Context(), cxx[0], args...).CombinedOutput()
	require.NoError(t, err, "%s", b)
	return func(dir, list string) {
		cmd := exec.CommandContext(t.Context(), program, dir)
		cmd.Stdin = strings.NewReader(list)
		b, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", b)
	}
}

// TestMetalKernels compares with the text of MLX's Metal kernels.
func TestMetalKernels(t *testing.T) {
	run := metalKernels(t)
	r := rand.New(rand.NewPCG(3, 4))
	jobs := mixed(r, 408)
	for _, from := range []dtype.DType{dtype.BF16, dtype.F16} {
		jobs = append(jobs, newJob("sweep", from, sweep(r, from), fpFormats()))
	}
	inputs := writeInputs(t, jobs)
	var list strings.Builder
	for _, j := range jobs {
		for _, f := range j.formats {
			fmt.Fprintln(&list, j.Input, j.DType, f.Mode, f.Bits, f.GroupSize)
		}
	}
	run(inputs, list.String())
	compareAll(t, inputs, "metal.", Metal, jobs)
}

// TestMetalKernelsGiveVectors checks that MLX's text produces what docs/parity-vectors says;
// nothing of this package is involved.
func TestMetalKernelsGiveVectors(t *testing.T) {
	run := metalKernels(t)
	dir, compared := t.TempDir(), 0
	for i, c := range vectortest.Load(t) {
		if c.Op != "quantize" || c.Scales != nil { // codes would have to become weights first
			continue
		}
		input := fmt.Sprint(i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, input), c.Source.Data, 0o600))
		for _, result := range c.Results {
			if result.Profile != Metal.String() {
				continue
			}
			require.Equal(t, c.Source.DType, result.DType)
			run(dir, fmt.Sprintln(input, result.DType, result.Mode, result.Bits, result.GroupSize))
			for part, want := range map[string]vectortest.Rows{"codes": result.Codes, "scales": result.Scales, "biases": result.Biases} {
				got, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s.%s.%d.%d.metal.%s", input, result.Mode, result.Bits, result.GroupSize, part)))
				require.NoError(t, err)
				require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(got), "%s -> %s: %s", c.Name, &result, part)
				compared++
			}
		}
	}
	require.Greater(t, compared, 150)
}
