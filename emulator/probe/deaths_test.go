//go:build fakemetal

package probe_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
)

// What must end the process, and what it says: plainly, and under AddressSanitizer where that sees it first.
var deadly = []struct {
	name, body   string
	says, asan   string
	memory, grid int
}{
	{name: "overrun of an array", body: "threadgroup ushort table[8]; table[x[0] + 8u] = 1; x[1] = table[0];", says: "an index outside its array", asan: "index 8 out of bounds"},
	{name: "overrun through a pointer", body: "threadgroup ushort table[8]; threadgroup ushort* p = table; p[x[0] + 8u] = 1; x[1] = table[0];",
		says: "wrote behind the 16 bytes of table", asan: "heap-buffer-overflow"},
	{name: "overrun of a parameter", body: "memory[x[0] + 4u] = 1u;", memory: 16, says: "wrote behind the 16 bytes of threadgroup(0)", asan: "heap-buffer-overflow"},
	{name: "missing threadgroup memory", body: "memory[0] = 1u;", memory: -1, says: "threadgroup(0) is not set"},
	{name: "too much threadgroup memory", body: "threadgroup uint table[8193]; table[0] = 1u; x[0] = table[0];", says: "32784 bytes of threadgroup memory"},
	{name: "divergent barrier", body: "if (i < 5u) return; threadgroup_barrier(mem_flags::mem_threadgroup);", grid: 32, says: "a barrier was not reached by every thread"},
	{name: "barrier of some only", body: "if (i > 5u) threadgroup_barrier(mem_flags::mem_threadgroup);", grid: 32, says: "a barrier was not reached by every thread"},
	{name: "behind a buffer", body: "x[i + 5000u] = 1u;", says: "touched buffer(0) at byte 20000 of 256", asan: "AddressSanitizer"},
	{name: "misaligned", body: "*((device uint*)((device uchar*)x + i + 1u)) = 1u;", says: "a misaligned or null access", asan: "misaligned address"},
	{name: "wide shift", body: "x[0] = 1u << (i + 32u);", says: "a shift by the width", asan: "shift exponent 32"},
	{name: "division by zero", body: "x[0] = 1u / i;", says: "a division by zero", asan: "division by zero"},
}

func TestDeaths(t *testing.T) {
	if n, err := strconv.Atoi(os.Getenv("DEADLY")); err == nil {
		d := deadly[n]
		parameter := ""
		if d.memory != 0 {
			parameter = ", threadgroup uint* memory [[threadgroup(0)]]"
		}
		text := header + "kernel void deadly(device uint* x [[buffer(0)]], uint i [[thread_position_in_grid]]" + parameter + ") {\n" + d.body + "\n}"
		err := probe.Try{Source: text, Kernel: "deadly", Grid: [3]int{d.grid}, Threadgroup: [3]int{32}, ThreadgroupMemory: max(0, d.memory), Buffers: [][]byte{words(64)}}.Run()
		fmt.Println("it lived:", err)
		return
	}
	for i, d := range deadly {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			c := exec.Command(os.Args[0], "-test.run=^TestDeaths$")
			c.Env = append(os.Environ(), fmt.Sprint("DEADLY=", i))
			out, err := c.CombinedOutput()
			require.Error(t, err, "%s", out)
			said := strings.Contains(string(out), d.says) || d.asan != "" && strings.Contains(string(out), d.asan)
			assert.True(t, said, "it said: %s", out)
		})
	}
}
