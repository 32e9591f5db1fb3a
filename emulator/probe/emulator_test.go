//go:build fakemetal

package probe_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/metalcast/metalcast/emulator/probe"
)

const header = "#include <metal_stdlib>\nusing namespace metal;\n"

// words is a buffer of n 32-bit words.
func words(n int) []byte { return make([]byte, 4*n) }

func word(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }

// A table inside the kernel is one for all threads of a threadgroup, a new one for the next, and not zeroed. Helper functions take it as a pointer.
func TestThreadgroupArray(t *testing.T) {
	const text = header + `
		inline void put(threadgroup ushort* table, uint i, uint v) { table[i] = ushort(v); }
		inline uint get(threadgroup const ushort* table, uint i) { return table[i]; }
		#define KERNEL(NAME, T) \
			kernel void NAME(device uint* out [[buffer(0)]], device uint* first [[buffer(1)]], uint group [[threadgroup_position_in_grid]], \
			                 uint tid [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) { \
				threadgroup T table[64]; \
				threadgroup T last; \
				first[group * 64u + tid] = get(table, tid); \
				threadgroup_barrier(mem_flags::mem_threadgroup); \
				put(table, tid, group * 100u + tid); \
				if (tid == n - 1u) last = T(7u + group); \
				threadgroup_barrier(mem_flags::mem_threadgroup); \
				out[group * 64u + tid] = get(table, (tid + 1u) % n) * 10u + last; \
			}
		KERNEL(neighbours, ushort)`
	out, first := words(64*20), words(64*20)
	require.NoError(t, probe.Try{Source: text, Kernel: "neighbours", Grid: [3]int{64*19 + 40}, Threadgroup: [3]int{64}, Buffers: [][]byte{out, first}}.Run())
	for group := range 20 {
		n := min(64, 64*19+40-64*group)
		for tid := range n {
			i := 64*group + tid
			require.EqualValues(t, (group*100+(tid+1)%n)*10+7+group, word(out, i), "group %d thread %d", group, tid)
			require.EqualValues(t, 0xA5A5, word(first, i), "fresh memory of group %d thread %d", group, tid)
		}
	}
}

func TestThreadgroupParameter(t *testing.T) {
	const text = header + `
		kernel void shift(device uint* out [[buffer(0)]], threadgroup uint* table [[threadgroup(0)]], uint i [[thread_position_in_grid]],
		                  uint tid [[thread_index_in_threadgroup]]) {
			table[tid] = i;
			threadgroup_barrier(mem_flags::mem_threadgroup);
			out[i] = table[31u - tid];
		}`
	out := words(64)
	require.NoError(t, probe.Try{Source: text, Kernel: "shift", Grid: [3]int{64}, Threadgroup: [3]int{32}, ThreadgroupMemory: 128, Buffers: [][]byte{out}}.Run())
	for i := range 64 {
		require.EqualValues(t, i/32*32+31-i%32, word(out, i))
	}
}

// A declaration that the rewriting of msl-compile does not know must not quietly become a variable of each thread.
func TestThreadgroupDeclarationNotUnderstood(t *testing.T) {
	for _, declaration := range []string{"threadgroup uint a[4], b[4];", "threadgroup uint a = 1u;", "threadgroup unsigned int a[4];"} {
		text := header + "kernel void k(device uint* out [[buffer(0)]]) {\n" + declaration + "\nout[0] = 1u; }"
		err := probe.Try{Source: text, Kernel: "k", Buffers: [][]byte{words(1)}}.Run()
		assert.ErrorContains(t, err, "threadgroup memory inside a kernel", "%s", declaration)
	}
}

// Threadgroups run on several OS threads at once.
func TestAtomics(t *testing.T) {
	const text = header + `
		kernel void tally(device atomic_uint* a [[buffer(0)]], uint i [[thread_position_in_grid]]) {
			atomic_fetch_add_explicit(&a[0], 3u, memory_order_relaxed);
			atomic_fetch_or_explicit(&a[1], 1u << (i & 31u), memory_order_relaxed);
			atomic_fetch_min_explicit(&a[2], 5000u - i, memory_order_relaxed);
			atomic_fetch_max_explicit(&a[3], i, memory_order_relaxed);
			if (atomic_load_explicit(&a[4], memory_order_relaxed) == 0u) atomic_store_explicit(&a[4], 9u, memory_order_relaxed);
		}`
	a := words(5)
	binary.LittleEndian.PutUint32(a[8:], math.MaxUint32)
	require.NoError(t, probe.Try{Source: text, Kernel: "tally", Grid: [3]int{5000}, Threadgroup: [3]int{32}, Buffers: [][]byte{a}}.Run())
	for i, want := range []uint32{15000, math.MaxUint32, 1, 4999, 9} {
		assert.Equal(t, want, word(a, i), "word %d", i)
	}
}

// Ragged in all three dimensions: every thread runs once and knows its place.
func TestPositions(t *testing.T) {
	const text = header + `
		kernel void place(device uint* out [[buffer(0)]], uint3 pos [[thread_position_in_grid]], uint3 grid [[threads_per_grid]],
		                  uint3 group [[threadgroup_position_in_grid]], ushort3 local [[thread_position_in_threadgroup]],
		                  uint3 size [[threads_per_threadgroup]], uint3 full [[dispatch_threads_per_threadgroup]],
		                  uint3 groups [[threadgroups_per_grid]], uint index [[thread_index_in_threadgroup]]) {
			bool ok = all3(pos.x == group.x * full.x + local.x, pos.y == group.y * full.y + local.y, pos.z == group.z * full.z + local.z);
			ok = ok && size.x == min(full.x, grid.x - group.x * full.x) && groups.y == (grid.y + full.y - 1u) / full.y;
			ok = ok && index == uint(local.x) + size.x * (uint(local.y) + size.y * uint(local.z));
			out[pos.x + grid.x * (pos.y + grid.y * pos.z)] += ok ? 1u : 100u;
		}`
	const helper = "inline bool all3(bool a, bool b, bool c) { return a && b && c; }\n"
	out := words(13 * 7 * 5)
	src := header + helper + text[len(header):]
	require.NoError(t, probe.Try{Source: src, Kernel: "place", Grid: [3]int{13, 7, 5}, Threadgroup: [3]int{4, 3, 2}, Buffers: [][]byte{out}}.Run())
	for i := range 13 * 7 * 5 {
		require.EqualValues(t, 1, word(out, i), "thread %d", i)
	}
}

// Fast math, Metal's default, flushes subnormals.
func TestFlushToZero(t *testing.T) {
	const text = header + `
		kernel void half(device uint* x [[buffer(0)]]) { x[0] = as_type<uint>(as_type<float>(x[0]) * as_type<float>(0x3F000000u)); }`
	for _, fast := range []bool{false, true} {
		x := words(1)
		binary.LittleEndian.PutUint32(x, 0x00800000)
		require.NoError(t, probe.Try{Source: text, Kernel: "half", Fast: fast, Buffers: [][]byte{x}}.Run())
		want := uint32(0x00400000)
		if fast || allFast {
			want = 0
		}
		assert.Equal(t, want, word(x, 0), "fast %v", fast)
	}
}
