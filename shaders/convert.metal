// metalcast's kernels without quantizing: block-scaled FP8 (E4M3FN) to bf16, f16 or f32; casts, copies and sums with 1 of these. Compiled
// behind arithmetic.metal.
//
// Where experts are stacked and gate is laid beside up: in the tiles' dst and dst_stride, nowhere else. A kernel writes the element of row r and column c
// of its tile at dst + r * dst_stride + c, or at dst + c * dst_stride + r where transposed is 1. With E experts of gate and up matrices [I, H]:
//
//     stack [E, 2I, H]              dst_stride = H     expert e's gate begins at element e * 2I * H, its up I * H elements later: gate's rows first
//     stack [E, H, 2I], transposed  dst_stride = 2I    expert e's gate begins at element e * H * 2I, its up I elements later: a line is a column of
//                                                      gate, then the same column of up
//
// and a down matrix [H, I] goes to a stack [E, H, I] with dst_stride = I, or [E, I, H], transposed, with dst_stride = H, each at element e * H * I. So every
// source matrix is read once and written once, to its final place, whichever shard or window it comes in.

// ------------------------------------------------------------------------------------------- arguments

// A rectangle of codes that shares one scale: at most 128 rows by 128 columns, or fewer rows that are longer.
struct TableTile {
    uint src;        // byte offset of the first code in the input, any alignment
    uint scale;      // byte offset of the scale in the input, any alignment
    uint dst;        // byte offset of the first result in the output, a multiple of its size
    uint rows;
    uint cols;
    uint src_stride; // elements from one row to the next
    uint dst_stride; // elements; from one column to the next where the result is transposed
    uint transposed; // 0 or 1
};

// A rectangle of codes with scale blocks too thin for a table.
struct ThinTile {
    uint src;
    uint scale;        // byte offset of the scale of the first code
    uint dst;
    uint rows;
    uint cols;
    uint src_stride;
    uint dst_stride;
    uint transposed;
    uint scale_stride; // scales from one row of blocks to the next
    uint block_rows;
    uint block_cols;
    uint row_phase;    // rows of the first block that lie before the rectangle
    uint col_phase;    // columns of it that do
};

// A rectangle of elements without scales.
struct PlainTile {
    uint src;
    uint dst;
    uint rows;
    uint cols;
    uint src_stride;
    uint dst_stride;
    uint transposed;
};

// ------------------------------------------------------------------------------------------- element types

struct OutBF16 {
    typedef ushort T;
    static inline ushort from(uint f32bits) { return f32_to_bf16(f32bits); }
    static inline bool infinite(ushort v) { return (v & 0x7FFFu) == 0x7F80u; }
};
struct OutF16 {
    typedef ushort T;
    static inline ushort from(uint f32bits) { return f32_to_f16(f32bits); }
    static inline bool infinite(ushort v) { return (v & 0x7FFFu) == 0x7C00u; }
};
struct OutF32 {
    typedef uint T;
    static inline uint from(uint f32bits) { return canonical(f32bits); }
    static inline bool infinite(uint v) { return (v & 0x7FFFFFFFu) == 0x7F800000u; }
};

// Four results in one store.
inline void store4(device ushort* d, ushort a, ushort b, ushort c, ushort e) { *((device ushort4*)d) = ushort4(a, b, c, e); }
inline void store4(device uint* d, uint a, uint b, uint c, uint e) { *((device uint4*)d) = uint4(a, b, c, e); }

// Where the i-th thread's element of a tile lies, in elements from the first. Neighbours in the result are threads' neighbours.
struct Place {
    uint row;
    uint col;
    uint src;
    uint dst;
};

template <typename Tile>
inline Place place(uint i, device const Tile& t) {
    uint length = t.transposed != 0u ? t.rows : t.cols; // of a line of the result
    uint line = i / length;
    uint k = i - line * length;
    uint row = t.transposed != 0u ? k : line;
    uint col = t.transposed != 0u ? line : k;
    return Place{row, col, row * t.src_stride + col, line * t.dst_stride + k};
}

// Bit 7 of a byte is set where the code's magnitude is 0x7F.
inline uint nan_codes(uint four) { return ((four & 0x7F7F7F7Fu) + 0x01010101u) & 0x80808080u; }

// ------------------------------------------------------------------------------------------- table kernel
// One threadgroup is one tile: its threads compute the 256 results that the tile's scale allows, one integer evaluation each, then every
// code is one load. Threads per threadgroup: a multiple of 32, at most 1024.

template <typename Out>
inline uint fill_table(threadgroup typename Out::T* table, uint scale, uint tid, uint threads) {
    bool finite = (scale & 0x7F800000u) != 0x7F800000u;
    uint met = finite ? 0u : kMetScale;
    for (uint i = tid; i < 256u; i += threads) {
        typename Out::T v = Out::from(e4m3_times_f32(i, scale));
        if (finite && Out::infinite(v)) met |= kMetOverflow;
        table[i] = v;
    }
    return met;
}

// Rows of up to 128 codes, 32 threads a row, or longer ones, all threads a row; four codes a thread. It tells whether there was a NaN code.
template <typename Out>
inline uint expand_rows(device const uchar* s, device typename Out::T* d, threadgroup const typename Out::T* table,
                        device const TableTile& t, uint tid, uint threads) {
    uint lanes = t.cols <= 128u ? 32u : threads;
    uint step = max(1u, threads / lanes); // never 0: nothing bounds a kernel that loops
    bool aligned = ((t.src | t.src_stride | t.dst_stride) & 3u) == 0u && (t.dst & (4u * sizeof(typename Out::T) - 1u)) == 0u;
    uint seen = 0u;
    for (uint c0 = tid % lanes * 4u; c0 < t.cols; c0 += lanes * 4u) {
        if (aligned && c0 + 4u <= t.cols) {
            for (uint r = tid / lanes; r < t.rows; r += step) {
                uint v = *((device const uint*)(s + r * t.src_stride + c0));
                seen |= nan_codes(v);
                store4(d + r * t.dst_stride + c0, table[v & 0xFFu], table[(v >> 8) & 0xFFu], table[(v >> 16) & 0xFFu], table[v >> 24]);
            }
            continue;
        }
        uint c1 = min(c0 + 4u, t.cols);
        for (uint r = tid / lanes; r < t.rows; r += step) {
            for (uint c = c0; c < c1; c++) {
                uint code = s[r * t.src_stride + c];
                seen |= nan_codes(code);
                d[r * t.dst_stride + c] = table[code];
            }
        }
    }
    return seen;
}

// The same into a transposed destination: 32 threads a column, so that stores are neighbours.
template <typename Out>
inline uint expand_columns(device const uchar* s, device typename Out::T* d, threadgroup const typename Out::T* table,
                           device const TableTile& t, uint tid, uint threads) {
    uint seen = 0u;
    for (uint c = tid >> 5; c < t.cols; c += max(1u, threads >> 5)) {
        for (uint r = tid & 31u; r < t.rows; r += 32u) {
            uint code = s[r * t.src_stride + c];
            seen |= nan_codes(code);
            d[c * t.dst_stride + r] = table[code];
        }
    }
    return seen;
}

template <typename Out, typename Scale>
inline void table_tile(device const uchar* in, device uchar* out, device const TableTile& t, device Status& status, device uint& nans,
                       threadgroup typename Out::T* table, uint tid, uint threads) {
    uint met = fill_table<Out>(table, Scale::widen(Scale::bits(in + t.scale)), tid, threads);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    device const uchar* s = in + t.src;
    device typename Out::T* d = (device typename Out::T*)(out + t.dst);
    uint seen = t.transposed != 0u ? expand_columns<Out>(s, d, table, t, tid, threads) : expand_rows<Out>(s, d, table, t, tid, threads);
    // All threads that store here store the same value, or one that says as much.
    if (met != 0u) status.met = met;
    if (seen != 0u) nans = kMetNaN;
    if (tid == 0u) status.done = kDone;
}

#define TABLE_KERNEL(NAME, OUT, SCALE)                                                                                             \
    kernel void NAME(device const uchar* in [[buffer(0)]], device uchar* out [[buffer(1)]],                                        \
                     device const TableTile* tiles [[buffer(2)]], device Status* status [[buffer(3)]],                             \
                     device uint* nans [[buffer(4)]], uint tile [[threadgroup_position_in_grid]],                                  \
                     uint tid [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]]) {                         \
        threadgroup OUT::T table[256];                                                                                             \
        table_tile<OUT, SCALE>(in, out, tiles[tile], status[tile], nans[tile], table, tid, threads);                               \
    }

TABLE_KERNEL(table_bf16_scale_f32, OutBF16, InF32)
TABLE_KERNEL(table_bf16_scale_bf16, OutBF16, InBF16)
TABLE_KERNEL(table_bf16_scale_f16, OutBF16, InF16)
TABLE_KERNEL(table_bf16_scale_e8m0, OutBF16, InE8M0)
TABLE_KERNEL(table_f16_scale_f32, OutF16, InF32)
TABLE_KERNEL(table_f16_scale_bf16, OutF16, InBF16)
TABLE_KERNEL(table_f16_scale_f16, OutF16, InF16)
TABLE_KERNEL(table_f16_scale_e8m0, OutF16, InE8M0)
TABLE_KERNEL(table_f32_scale_f32, OutF32, InF32)
TABLE_KERNEL(table_f32_scale_bf16, OutF32, InBF16)
TABLE_KERNEL(table_f32_scale_f16, OutF32, InF16)
TABLE_KERNEL(table_f32_scale_e8m0, OutF32, InE8M0)

// ------------------------------------------------------------------------------------------- thin kernel
// Every element is computed: for blocks so thin that a table of 256 costs more than they hold.

template <typename Out, typename Scale>
inline void thin_tile(device const uchar* in, device uchar* out, device const ThinTile& t, device Status& status, device uint& nans,
                      uint tid, uint threads) {
    uint met = 0u;
    uint seen = 0u;
    device typename Out::T* d = (device typename Out::T*)(out + t.dst);
    for (uint i = tid; i < t.rows * t.cols; i += threads) {
        Place at = place(i, t);
        uint block = (at.row + t.row_phase) / t.block_rows * t.scale_stride + (at.col + t.col_phase) / t.block_cols;
        uint scale = Scale::widen(Scale::bits(in + t.scale + block * Scale::kSize));
        uint code = in[t.src + at.src];
        typename Out::T v = Out::from(e4m3_times_f32(code, scale));
        seen |= nan_codes(code);
        if ((scale & 0x7F800000u) == 0x7F800000u) {
            met |= kMetScale;
        } else if (Out::infinite(v)) {
            met |= kMetOverflow;
        }
        d[at.dst] = v;
    }
    if (met != 0u) status.met = met;
    if (seen != 0u) nans = kMetNaN;
    if (tid == 0u) status.done = kDone;
}

#define THIN_KERNEL(NAME, OUT, SCALE)                                                                                              \
    kernel void NAME(device const uchar* in [[buffer(0)]], device uchar* out [[buffer(1)]],                                        \
                     device const ThinTile* tiles [[buffer(2)]], device Status* status [[buffer(3)]],                              \
                     device uint* nans [[buffer(4)]], uint tile [[threadgroup_position_in_grid]],                                  \
                     uint tid [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]]) {                         \
        thin_tile<OUT, SCALE>(in, out, tiles[tile], status[tile], nans[tile], tid, threads);                                       \
    }

THIN_KERNEL(thin_bf16_scale_f32, OutBF16, InF32)
THIN_KERNEL(thin_bf16_scale_bf16, OutBF16, InBF16)
THIN_KERNEL(thin_bf16_scale_f16, OutBF16, InF16)
THIN_KERNEL(thin_bf16_scale_e8m0, OutBF16, InE8M0)
THIN_KERNEL(thin_f16_scale_f32, OutF16, InF32)
THIN_KERNEL(thin_f16_scale_bf16, OutF16, InBF16)
THIN_KERNEL(thin_f16_scale_f16, OutF16, InF16)
THIN_KERNEL(thin_f16_scale_e8m0, OutF16, InE8M0)
THIN_KERNEL(thin_f32_scale_f32, OutF32, InF32)
THIN_KERNEL(thin_f32_scale_bf16, OutF32, InBF16)
THIN_KERNEL(thin_f32_scale_f16, OutF32, InF16)
THIN_KERNEL(thin_f32_scale_e8m0, OutF32, InE8M0)

// ------------------------------------------------------------------------------------------- plain kernels
// Elements without scales: casts, copies, sums with 1.

// Bits of RNE_f32(x + 1) for any x.
inline uint add_one(uint x) {
    uint a = x & kMagnitude;
    if (a > kInfinity) return 0x7FC00000u;
    return a == kInfinity ? x : f32_add(x, 0x3F800000u);
}

template <typename Out, typename In>
inline void cast_tile(device const uchar* in, device uchar* out, device const PlainTile& t, device Status& status, uint tid, uint threads) {
    uint met = 0u;
    device typename Out::T* d = (device typename Out::T*)(out + t.dst);
    for (uint i = tid; i < t.rows * t.cols; i += threads) {
        Place at = place(i, t);
        uint x = In::widen(In::bits(in + t.src + at.src * In::kSize));
        typename Out::T v = Out::from(x);
        if (Out::infinite(v) && !is_infinite(x)) met = kMetOverflow;
        d[at.dst] = v;
    }
    if (met != 0u) status.met = met;
    if (tid == 0u) status.done = kDone;
}

// Sum rounds the sum to the operand's own type.
template <typename Out, typename In, typename Sum>
inline void add_one_tile(device const uchar* in, device uchar* out, device const PlainTile& t, device Status& status, uint tid, uint threads) {
    uint met = 0u;
    device typename Out::T* d = (device typename Out::T*)(out + t.dst);
    for (uint i = tid; i < t.rows * t.cols; i += threads) {
        Place at = place(i, t);
        uint x = In::widen(In::bits(in + t.src + at.src * In::kSize));
        typename Out::T v = Out::from(In::widen(Sum::from(add_one(x))));
        if (Out::infinite(v) && !is_infinite(x)) met = kMetOverflow;
        d[at.dst] = v;
    }
    if (met != 0u) status.met = met;
    if (tid == 0u) status.done = kDone;
}

template <typename Out, typename In>
inline void copy_tile(device const uchar* in, device uchar* out, device const PlainTile& t, device Status& status, uint tid, uint threads) {
    device typename Out::T* d = (device typename Out::T*)(out + t.dst);
    for (uint i = tid; i < t.rows * t.cols; i += threads) {
        Place at = place(i, t);
        d[at.dst] = typename Out::T(In::bits(in + t.src + at.src * In::kSize));
    }
    if (tid == 0u) status.done = kDone;
}

#define PLAIN_KERNEL(NAME)                                                                                                         \
    kernel void NAME(device const uchar* in [[buffer(0)]], device uchar* out [[buffer(1)]],                                        \
                     device const PlainTile* tiles [[buffer(2)]], device Status* status [[buffer(3)]],                             \
                     uint tile [[threadgroup_position_in_grid]], uint tid [[thread_index_in_threadgroup]],                         \
                     uint threads [[threads_per_threadgroup]])
#define CAST_KERNEL(NAME, OUT, IN) PLAIN_KERNEL(NAME) { cast_tile<OUT, IN>(in, out, tiles[tile], status[tile], tid, threads); }
#define ADD_ONE_KERNEL(NAME, OUT, IN, SUM) PLAIN_KERNEL(NAME) { add_one_tile<OUT, IN, SUM>(in, out, tiles[tile], status[tile], tid, threads); }
#define COPY_KERNEL(NAME, OUT, IN) PLAIN_KERNEL(NAME) { copy_tile<OUT, IN>(in, out, tiles[tile], status[tile], tid, threads); }

CAST_KERNEL(cast_bf16_to_bf16, OutBF16, InBF16)
CAST_KERNEL(cast_bf16_to_f16, OutF16, InBF16)
CAST_KERNEL(cast_bf16_to_f32, OutF32, InBF16)
CAST_KERNEL(cast_f16_to_bf16, OutBF16, InF16)
CAST_KERNEL(cast_f16_to_f16, OutF16, InF16)
CAST_KERNEL(cast_f16_to_f32, OutF32, InF16)
CAST_KERNEL(cast_f32_to_bf16, OutBF16, InF32)
CAST_KERNEL(cast_f32_to_f16, OutF16, InF32)
CAST_KERNEL(cast_f32_to_f32, OutF32, InF32)

ADD_ONE_KERNEL(add_one_bf16_to_bf16, OutBF16, InBF16, OutBF16)
ADD_ONE_KERNEL(add_one_bf16_to_f16, OutF16, InBF16, OutBF16)
ADD_ONE_KERNEL(add_one_bf16_to_f32, OutF32, InBF16, OutBF16)
ADD_ONE_KERNEL(add_one_f16_to_bf16, OutBF16, InF16, OutF16)
ADD_ONE_KERNEL(add_one_f16_to_f16, OutF16, InF16, OutF16)
ADD_ONE_KERNEL(add_one_f16_to_f32, OutF32, InF16, OutF16)
ADD_ONE_KERNEL(add_one_f32_to_bf16, OutBF16, InF32, OutF32)
ADD_ONE_KERNEL(add_one_f32_to_f16, OutF16, InF32, OutF32)
ADD_ONE_KERNEL(add_one_f32_to_f32, OutF32, InF32, OutF32)

COPY_KERNEL(copy_2_bytes, OutBF16, InBF16)
COPY_KERNEL(copy_4_bytes, OutF32, InF32)

// ------------------------------------------------------------------------------------------- yardstick
// What metalcast bench measures the others by: 16 bytes a thread.

kernel void copy16(device const uint4* in [[buffer(0)]], device uint4* out [[buffer(1)]], constant uint& count [[buffer(2)]],
                   uint i [[thread_position_in_grid]]) {
    if (i < count) out[i] = in[i];
}
