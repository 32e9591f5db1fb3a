//go:build fakemetal

package probe_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
)

var allFast = os.Getenv("FAKE_METAL_FAST") != ""

// count adds 1 to every element, in threadgroups of 32.
func count(elements, dispatches, commandBuffers int) (probe.Try, []byte) {
	const text = header + `kernel void count(device uint* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] += 256u; }`
	x := words(elements)
	return probe.Try{Source: text, Kernel: "count", Grid: [3]int{elements}, Threadgroup: [3]int{32}, Buffers: [][]byte{x},
		Dispatches: dispatches, CommandBuffers: commandBuffers}, x
}

func TestFaultsThatSaySo(t *testing.T) {
	for says, f := range map[string]probe.Faults{
		"no device":             {NoDevice: probe.Always()},
		"program_source: no":    {NoLibrary: probe.Always(), Text: "program_source: no"},
		"XPC_ERROR":             {NoPipeline: probe.Nth(1), Text: "XPC_ERROR"},
		"no queue":              {NoQueue: probe.Always()},
		"GPU Timeout":           {Fail: probe.Nth(3)},
		"OutOfMemory":           {Fail: probe.Between(2, 3), Text: "OutOfMemory", Code: 8},
		"without an NSError":    {Fail: probe.From(3), NoError: true},
		"an unknown status":     {Fail: probe.Always(), Status: 3},
		"SubmissionsIgnored":    {Fail: probe.Nth(1), Sticky: true},
		"program_source.metal:": {}, // of the source below
	} {
		t.Run(says, func(t *testing.T) {
			t.Cleanup(probe.Inject(f))
			try, _ := count(64, 2, 3)
			if f == (probe.Faults{}) {
				try.Source += "\nkernel void bad() { undeclared = 1; }"
			}
			assert.ErrorContains(t, try.Run(), says)
		})
	}
}

// Dispatches that silently do not run, and their numbers.
func TestSkip(t *testing.T) {
	t.Cleanup(probe.Inject(probe.Faults{Skip: probe.Between(2, 4)}))
	try, x := count(64, 3, 2)
	require.NoError(t, try.Run())
	for i := range 64 {
		assert.EqualValues(t, 3*256, word(x, i))
	}
	assert.Equal(t, 6, probe.Count("dispatch"))
	assert.Equal(t, 2, probe.Count("commit"))
	assert.Equal(t, 1, probe.Count("queue"))
}

// One element of the chosen threadgroup differs, by its least bit.
func TestCorrupt(t *testing.T) {
	t.Cleanup(probe.Inject(probe.Faults{Corrupt: probe.Nth(2), Victim: [3]int{3, 0, 0}}))
	try, x := count(200, 3, 1)
	require.NoError(t, try.Run())
	for i := range 200 {
		want := 3 * 256
		if i == 3*32 {
			want++
		}
		assert.EqualValues(t, want, word(x, i), "element %d", i)
	}
}

func TestLateFailure(t *testing.T) {
	t.Cleanup(probe.Inject(probe.Faults{Fail: probe.Always(), Late: true}))
	try, x := count(1, 1, 1)
	require.Error(t, try.Run())
	assert.EqualValues(t, 256, word(x, 0), "it ran")
}

func TestObjectsAreCounted(t *testing.T) {
	try, _ := count(32, 2, 2)
	require.NoError(t, try.Run())
	live, poolless := probe.Live(), probe.Poolless()
	for range 10 {
		require.NoError(t, try.Run())
	}
	assert.Equal(t, live, probe.Live())
	assert.Equal(t, poolless, probe.Poolless())
}
