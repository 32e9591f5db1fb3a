// metalcast's compute kernels: block-scaled FP8 (E4M3FN) to bf16, f16 or f32; casts, copies and sums with 1 of these; and MLX's quantized
// formats of all of them. MSL 2.4 (macOS 12, M1) or later.
//
//     out = RNE_out( RNE_f32( f32(e4m3fn(code)) * f32(scale) ) )
//
// Every NaN result is canonical, with sign 0: bf16 0x7FC0, f16 0x7E00, f32 0x7FC00000. Package internal/kernel has the whole contract.
//
// Whatever decides a bit of a result is integer arithmetic on bit patterns. Apple GPUs flush subnormals in float arithmetic whatever the
// options say, and fast math is Metal's default; neither can change an integer. For the same reason there is no bfloat type here.
//
// The host cuts jobs into tiles, one for each threadgroup, and gives their places as byte offsets into two buffers that are bound
// at offset 0. Every threadgroup leaves a mark in its tile's status, so that a dispatch that did not run is seen.

#include <metal_stdlib>
using namespace metal;

// ------------------------------------------------------------------------------------------- arguments
// These structs are read by package metal too; its tests hold sizes and offsets equal.

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

// A rectangle of elements to quantize: whole groups, which lie along a row, or along a column where the result is transposed. A line is a row of the result.
struct QuantizeTile {
    uint src;
    uint scale;        // byte offset of the scale of the first code
    uint codes;        // byte offsets in the output, of the first group's codes, a multiple of 4,
    uint scales;       // its scale
    uint biases;       // and its bias, multiples of their size
    uint rows;         // of the source
    uint cols;
    uint src_stride;
    uint transposed;
    uint line_bytes;   // of codes, from one line to the next
    uint line_groups;  // scales from one line to the next
    uint scale_stride; // the scale blocks, as in ThinTile
    uint block_rows;
    uint block_cols;
    uint row_phase;
    uint col_phase;
    uint mode;         // kAffine, kMXFP4, kMXFP8 or kNVFP4
    uint bits;
    uint group;        // elements of a group: 16, 32, 64 or 128
    uint cpu;          // 1: as MLX's CPU backend computes, 0: as its Metal kernels do
    uint to;           // kBF16, kF16 or kF32: the type of the matrix that is quantized
};

// What a threadgroup says of its tile.
struct Status {
    uint done; // kDone once the tile's threadgroup has run
    uint met;  // kMet...: what the host has to look at
};

constant uint kDone = 0x600D600Du;
constant uint kMetScale = 1u;    // a scale that is NaN or infinite
constant uint kMetOverflow = 2u; // a finite code of the table, not necessarily of the tile, becomes infinite
constant uint kMetNaN = 4u;      // set in nans: a NaN code
constant uint kMetGroup = 8u;    // a group that cannot be quantized

constant uint kAffine = 0u;
constant uint kMXFP4 = 1u;
constant uint kMXFP8 = 2u;
constant uint kNVFP4 = 3u;

constant uint kBF16 = 0u;
constant uint kF16 = 1u;
constant uint kF32 = 2u;

constant uint kSign = 0x80000000u; // of float32
constant uint kMagnitude = 0x7FFFFFFFu;
constant uint kInfinity = 0x7F800000u;

// ------------------------------------------------------------------------------------------- arithmetic

// x / 2^shift to nearest, ties to even; shift is 1 to 31.
inline uint shift_to_even(uint x, uint shift) {
    uint q = x >> shift;
    uint rest = x << (32u - shift); // the dropped bits, left aligned
    return q + ((rest > 0x80000000u || (rest == 0x80000000u && (q & 1u) != 0u)) ? 1u : 0u);
}

// Bits of the float32 nearest to a number of significand n, 2^31 <= n, whose last bit stands for all that may follow, and biased exponent b,
// ties to even.
inline uint round_f32(uint sign, uint n, int b) {
    if (b > 0) return sign | min((uint(b - 1) << 23) + shift_to_even(n, 8u), kInfinity); // the leading bit and a carry walk into the exponent
    if (b < -23) return sign; // below half of the least subnormal
    if (b == -23) return sign | (n > 0x80000000u ? 1u : 0u);
    return sign | shift_to_even(n, uint(9 - b));
}

// The significand of a finite float32, and its exponent field as of a normal number: the value is significand * 2^(exponent - 150).
inline uint significand(uint x) { return (x & kInfinity) != 0u ? ((x & 0x7FFFFFu) | 0x800000u) : (x & 0x7FFFFFu); }
inline uint exponent(uint x) { return max((x >> 23) & 0xFFu, 1u); }

// Bits of RNE_f32(e4m3fn(code) * scale) for any code and any scale's bits. code's value is cm * 2^(max(ce,1) - 10).
inline uint e4m3_times_f32(uint code, uint scale) {
    uint c = code & 0x7Fu;
    uint sign = ((code << 24) ^ scale) & kSign;
    uint a = scale & kMagnitude;
    uint ce = c >> 3;
    uint cm = ce != 0u ? ((c & 7u) | 8u) : c;
    if (c == 0x7Fu || a > kInfinity || (a == kInfinity && cm == 0u)) return 0x7FC00000u;
    if (a == kInfinity) return sign | kInfinity;
    uint p = cm * significand(a); // exact: at most 28 bits
    if (p == 0u) return sign;
    uint z = clz(p);
    return round_f32(sign, p << z, int(max(ce, 1u)) + int(exponent(a)) - int(z) - 2); // -10 - 150 + 31 + 127 = -2
}

inline ushort f32_to_bf16(uint u) {
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return ushort(0x7FC0u);
    return ushort((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}

inline ushort f32_to_f16(uint u) {
    uint sign = (u >> 16) & 0x8000u;
    uint a = u & 0x7FFFFFFFu;
    if (a > 0x7F800000u) return ushort(0x7E00u);
    if (a >= 0x477FF000u) return ushort(sign | 0x7C00u); // rounds to 65536 or more
    if (a >= 0x38800000u) return ushort(sign | ((a - 0x38000000u + 0xFFFu + ((a >> 13) & 1u)) >> 13));
    if (a <= 0x33000000u) return ushort(sign); // 2^-25 at most: a tie goes to the even zero
    return ushort(sign | shift_to_even(significand(a), 126u - (a >> 23))); // by 14 to 24
}

inline uint canonical(uint u) { return (u & kMagnitude) > kInfinity ? 0x7FC00000u : u; }

inline uint f16_to_f32(uint h) {
    uint sign = (h & 0x8000u) << 16;
    uint a = h & 0x7FFFu;
    if (a > 0x7C00u) return 0x7FC00000u;
    if (a == 0x7C00u) return sign | 0x7F800000u;
    if (a >= 0x0400u) return sign | ((a << 13) + 0x38000000u);
    if (a == 0u) return sign;
    uint z = clz(a); // 22..31; the value is a * 2^-24
    return sign | ((a << (z - 8u)) + ((133u - z) << 23)); // the leading bit adds 1 to the exponent field
}

inline uint e8m0_to_f32(uint b) { return b == 0xFFu ? 0x7FC00000u : b == 0u ? 0x00400000u : b << 23; }

// Bits of RNE_f32(x + y) for finite x and y. Both significands stand with their leading bit at 2^30, the lesser one shifted to its place; what that
// drops leaves its trace in the last bit, which is far below every tie where anything is dropped (the sum then begins at 2^29 or above).
inline uint f32_add(uint x, uint y) {
    bool swap = (x & kMagnitude) < (y & kMagnitude);
    uint hi = swap ? y : x;
    uint lo = swap ? x : y;
    uint hm = significand(hi) << 7;
    uint lm = significand(lo) << 7;
    uint shift = min(exponent(hi) - exponent(lo), 31u);
    uint low = lm >> shift;
    if (low << shift != lm) low |= 1u;
    uint sum = ((x ^ y) & kSign) != 0u ? hm - low : hm + low;
    if (sum == 0u) return x & y & kSign;
    uint z = clz(sum);
    return round_f32(hi & kSign, sum << z, int(exponent(hi)) + 1 - int(z));
}

// Bits of RNE_f32(x + 1) for any x.
inline uint add_one(uint x) {
    uint a = x & kMagnitude;
    if (a > kInfinity) return 0x7FC00000u;
    return a == kInfinity ? x : f32_add(x, 0x3F800000u);
}

// A finite number other than 0 as m * 2^(e - 150), 2^23 <= m < 2^24.
struct Parts {
    uint m;
    int e;
};
inline Parts parts(uint x) {
    uint m = significand(x);
    uint z = clz(m) - 8u;
    return Parts{m << z, int(exponent(x)) - int(z)};
}

// Bits of RNE_f32(x * y) for finite x and y.
inline uint f32_multiply(uint x, uint y) {
    uint sign = (x ^ y) & kSign;
    if ((x & kMagnitude) == 0u || (y & kMagnitude) == 0u) return sign;
    Parts a = parts(x);
    Parts b = parts(y);
    ulong p = ulong(a.m) * ulong(b.m); // from 2^46 to 2^48
    uint n = uint(p >> 16) | ((p & 0xFFFFul) != 0ul ? 1u : 0u);
    uint z = clz(n);
    return round_f32(sign, n << z, a.e + b.e - 126 - int(z));
}

// a * 2^27 / b, rounded down, for a and b from 2^23 to 2^24; the last bit is set where there is a rest. Digits of 7 bits: all fits in 32.
inline uint quotient(uint a, uint b) {
    uint q = 0u;
    b <<= 1;
    for (uint i = 0u; i < 4u; i++) {
        a <<= 7;
        q = (q << 7) | (a / b);
        a %= b;
    }
    return q | (a != 0u ? 1u : 0u);
}

// Bits of RNE_f32(x / y) for finite x and for y other than 0 and NaN.
inline uint f32_divide(uint x, uint y) {
    uint sign = (x ^ y) & kSign;
    if ((x & kMagnitude) == 0u || (y & kMagnitude) == kInfinity) return sign;
    Parts a = parts(x);
    Parts b = parts(y);
    uint q = quotient(a.m, b.m); // from 2^26 to 2^28
    uint z = clz(q);
    return round_f32(sign, q << z, a.e - b.e + 131 - int(z));
}

inline bool is_infinite(uint f32bits) { return (f32bits & kMagnitude) == kInfinity; }

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

// Byte loads: operands lie where the file has them.
inline uint load16(device const uchar* p) { return uint(p[0]) | (uint(p[1]) << 8); }
inline uint load32(device const uchar* p) { return uint(p[0]) | (uint(p[1]) << 8) | (uint(p[2]) << 16) | (uint(p[3]) << 24); }

// NaN is widened to some NaN.
struct InBF16 {
    static constant constexpr uint kSize = 2u;
    static inline uint bits(device const uchar* p) { return load16(p); }
    static inline uint widen(uint v) { return v << 16; }
};
struct InF16 {
    static constant constexpr uint kSize = 2u;
    static inline uint bits(device const uchar* p) { return load16(p); }
    static inline uint widen(uint v) { return f16_to_f32(v); }
};
struct InF32 {
    static constant constexpr uint kSize = 4u;
    static inline uint bits(device const uchar* p) { return load32(p); }
    static inline uint widen(uint v) { return v; }
};
struct InE8M0 {
    static constant constexpr uint kSize = 1u;
    static inline uint bits(device const uchar* p) { return uint(p[0]); }
    static inline uint widen(uint v) { return e8m0_to_f32(v); }
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

// ------------------------------------------------------------------------------------------- quantize kernel
// MLX's formats to the bit, of both its backends: package internal/mlxquant has the arithmetic and says what decides a bit. A thread takes eight
// consecutive elements of a group, whose codes are whole bytes; all threads of a group learn its extremes, and find its scale, each for itself.
// Threads per threadgroup: a multiple of 32, at most 256.

inline uint narrow(uint to, uint x) { return to == kBF16 ? uint(f32_to_bf16(x)) : to == kF16 ? uint(f32_to_f16(x)) : x; }
inline uint widen(uint to, uint v) { return to == kBF16 ? v << 16 : to == kF16 ? f16_to_f32(v) : v; }
inline uint keep(uint to, uint x) { return widen(to, narrow(to, x)); }

// Unsigned integers in the order of the floats, -0 before +0.
inline uint order_of(uint x) { return (x & kSign) != 0u ? ~x : x | kSign; }
inline uint in_order(uint k) { return (k & kSign) != 0u ? k ^ kSign : ~k; }

// The float32 of an integer, 0 < n < 2^24.
inline uint f32_of(uint n) {
    uint z = clz(n);
    return ((157u - z) << 23) + (n << (z - 8u)); // the leading bit adds 1 to the exponent field
}

// x rounded to an integer; halves go to even, or away from zero.
inline uint round_integer(uint x, bool even) {
    uint e = (x >> 23) & 0xFFu;
    if (e >= 150u) return x; // an integer already, or infinite
    if (e < 126u) return x & kSign;
    uint m = significand(x);
    uint shift = 150u - e; // 1..24
    uint n = even ? shift_to_even(m, shift) : (m + (1u << (shift - 1u))) >> shift;
    return (x & kSign) | (n != 0u ? f32_of(n) : 0u);
}

// The E4M3 code nearest to x, ties to even, at most 448, the sign kept.
inline uint f32_to_e4m3(uint x) {
    uint sign = (x >> 24) & 0x80u;
    uint a = x & kMagnitude;
    if (a >= 0x43E00000u) return sign | 0x7Eu;
    if (a >= 0x3C800000u) return sign | shift_to_even(a - 0x3C000000u, 20u); // 2^-6, the least normal number
    if (a <= 0x3A800000u) return sign; // 2^-10: a tie goes to the even zero
    return sign | shift_to_even(significand(a), 141u - (a >> 23)); // by 21 to 24
}

constant uint kE2M1[8] = {0u, 0x3F000000u, 0x3F800000u, 0x3FC00000u, 0x40000000u, 0x40400000u, 0x40800000u, 0x40C00000u};

// The E2M1 code nearest to x as Metal has it: halves go to the even code, the sign is kept.
inline uint even_e2m1(uint x) {
    uint a = x & kMagnitude; // beside 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5
    uint n = uint(a > 0x3E800000u) + uint(a >= 0x3F400000u) + uint(a > 0x3FA00000u) + uint(a >= 0x3FE00000u) + uint(a > 0x40200000u) +
             uint(a >= 0x40600000u) + uint(a > 0x40A00000u);
    return n | ((x >> 28) & 8u);
}

// The first E2M1 code with the least |x - value| in float32, which is how the CPU finds it: halves go to the lesser magnitude, and there is no negative
// zero. Only from 2^22 on are the differences rounded.
inline uint first_e2m1(uint x) {
    uint a = x & kMagnitude;
    uint sign = (x >> 28) & 8u;
    if (a < 0x4A800000u) {
        uint n = uint(a > 0x3E800000u) + uint(a > 0x3F400000u) + uint(a > 0x3FA00000u) + uint(a > 0x3FE00000u) + uint(a > 0x40200000u) +
                 uint(a > 0x40600000u) + uint(a > 0x40A00000u);
        return n != 0u ? n | sign : 0u;
    }
    uint code = 0u;
    uint least = kInfinity;
    for (uint c = 0u; c < 16u; c++) {
        uint d = f32_add(x, kE2M1[c & 7u] ^ (c < 8u ? kSign : 0u)) & kMagnitude;
        if (d < least) {
            code = c;
            least = d;
        }
    }
    return code;
}

// What a group's codes are made with; float32 bits where nothing else is said.
struct Group {
    bool finite;  // if not, all its bytes are zero
    uint scale;   // as it is stored
    uint bias;    // as it is stored
    uint origin;  // affine: what is subtracted
    uint unit;    // affine: what is divided by, 0 where all codes are 0. Else: what is multiplied by on Metal, divided by on the CPU
    uint inverse; // affine: floor(2^47 / the significand of unit)
};

// first_zero is the first element that is zero, if the least one is.
inline void affine_group(thread Group& g, device const QuantizeTile& t, uint lo, uint hi, uint first_zero) {
    uint range = f32_add(hi, lo ^ kSign);
    uint s = 0u;
    if (t.bits == 1u) {
        s = max(range, 0x33D6BF95u); // 1e-7
        g.origin = (lo & kMagnitude) == 0u ? first_zero : lo;
    } else {
        bool low = (lo & kMagnitude) > (hi & kMagnitude);
        uint edge = low ? lo : hi;
        s = range == kInfinity ? kInfinity : max(f32_divide(range, f32_of((1u << t.bits) - 1u)), 0x33D6BF95u);
        if (!low) s |= kSign;
        uint q = round_integer(f32_divide(edge, s), t.cpu != 0u);
        if ((q & kMagnitude) != 0u) {
            s = f32_divide(edge, q);
            g.origin = edge;
        }
    }
    g.scale = narrow(t.to, s);
    g.bias = narrow(t.to, g.origin);
    g.unit = s;
    g.inverse = quotient(0x800000u, significand(s) | 0x800000u) >> 3;
    g.finite = !is_infinite(widen(t.to, g.scale));
}

// The integer nearest to (x - origin) / unit as float32 has it, at least 0 and at most 2^bits - 1. With a quotient D/S * 2^e of significands it is
// k + 1 instead of k exactly where the quotient reaches k + 1/2 less half of the spacing of float32 there (or more than k + 1/2 and that, where
// the half goes to an even k): a comparison of integers, for which no equality exists. k comes from the inverse, at most 2^-10 too low.
inline uint affine_code(thread const Group& g, device const QuantizeTile& t, uint x) {
    uint d = f32_add(x, g.origin ^ kSign);
    uint most = (1u << t.bits) - 1u;
    int e = int(exponent(d)) - int(exponent(g.unit));
    if (((d ^ g.unit) & kSign) != 0u || e < -1 || g.unit << 1 == 0u) return 0u; // negative or below 1/2
    if (e > 8) return most;
    uint D = significand(d);
    uint S = significand(g.unit);
    uint k = (uint((ulong(D) * ulong(g.inverse)) >> uint(35 - e)) + 2044u) >> 12; // units of 2^-12
    ulong twice = ulong(D) << uint(e + 26); // the quotient times 2^26 * S
    ulong tie = (ulong(S) * ulong(2u * k + 1u)) << 25;
    bool even = t.cpu != 0u && (k & 1u) == 0u;
    ulong spacing = ulong(S) << (k != 0u ? 33u - clz(k) : 0u); // about 1/2 no quotient is that near
    bool more = even ? twice > tie + spacing : twice + spacing >= tie;
    return min(k + (more ? 1u : 0u), most);
}

// The least e with 2^e >= x, for x = 0 less than any other.
inline int ceil_log2(uint x) {
    if (x == 0u) return -1023;
    Parts p = parts(x);
    return p.e - 127 + (p.m != 0x800000u ? 1 : 0);
}

inline void mx_group(thread Group& g, device const QuantizeTile& t, uint amax) {
    uint r = f32_divide(amax, t.mode == kMXFP8 ? 0x43E00000u : 0x40C00000u);
    if (t.cpu == 0u) {
        int e = max(ceil_log2(r), -127);
        g.scale = uint(e + 127);
        g.unit = uint(127 - e) << 23;
        return;
    }
    r = keep(t.to, r);
    int e = r != 0u ? ceil_log2(r) : 0;
    g.scale = uint(e + 127) & 0xFFu; // wraps
    g.unit = e >= -126 ? uint(e + 127) << 23 : 1u << uint(e + 149);
}

inline void nv_group(thread Group& g, device const QuantizeTile& t, uint amax) {
    uint r = f32_divide(amax, 0x40C00000u);
    g.scale = f32_to_e4m3(t.cpu != 0u ? keep(t.to, r) : r);
    if (g.scale == 0u) return;
    uint d = e4m3_times_f32(g.scale, 0x3F800000u);
    g.unit = t.cpu != 0u ? d : f32_divide(0x3F800000u, d);
}

inline uint fp_code(thread const Group& g, device const QuantizeTile& t, uint x) {
    if (t.cpu == 0u) {
        uint v = f32_multiply(x, g.unit);
        return t.mode == kMXFP8 ? f32_to_e4m3(v) : even_e2m1(v);
    }
    if (g.unit == 0u) return 0u;
    uint v = keep(t.to, f32_divide(x, g.unit));
    return t.mode == kMXFP8 ? f32_to_e4m3(v) : first_e2m1(v);
}

// Eight consecutive elements of a group, widened to float32.
struct Eight {
    uint x[8];
};

template <typename Scale>
struct Codes {
    static inline void load(thread Eight& v, device const uchar* in, device const QuantizeTile& t, uint row, uint col) {
        bool turned = t.transposed != 0u;
        uint down = row + t.row_phase;
        uint across = col + t.col_phase;
        device const uchar* s = in + t.src + row * t.src_stride + col;
        uint step = turned ? t.src_stride : 1u;
        // The scale, and how many elements are left of its block.
        device const uchar* at = in + t.scale + (down / t.block_rows * t.scale_stride + across / t.block_cols) * Scale::kSize;
        uint length = turned ? t.block_rows : t.block_cols;
        uint left = length - (turned ? down : across) % length;
        uint scale = Scale::widen(Scale::bits(at));
        for (uint i = 0u; i < 8u; i++) {
            if (left == 0u) {
                at += (turned ? t.scale_stride : 1u) * Scale::kSize;
                scale = Scale::widen(Scale::bits(at));
                left = length;
            }
            left--;
            v.x[i] = uint(f32_to_bf16(e4m3_times_f32(s[i * step], scale))) << 16;
        }
    }
};

template <typename In>
struct Plain {
    static inline void load(thread Eight& v, device const uchar* in, device const QuantizeTile& t, uint row, uint col) {
        device const uchar* s = in + t.src + (row * t.src_stride + col) * In::kSize;
        uint step = (t.transposed != 0u ? t.src_stride : 1u) * In::kSize;
        for (uint i = 0u; i < 8u; i++) v.x[i] = In::widen(In::bits(s + i * step));
    }
};

// The first element of a group that is zero; +0 if there is none.
template <typename Source>
inline uint first_zero(device const uchar* in, device const QuantizeTile& t, uint row, uint col) {
    for (uint i = 0u; i < t.group; i += 8u) {
        Eight v;
        Source::load(v, in, t, t.transposed != 0u ? row + i : row, t.transposed != 0u ? col : col + i);
        for (uint k = 0u; k < 8u; k++) {
            uint x = keep(t.to, v.x[k]);
            if ((x & kMagnitude) == 0u) return x;
        }
    }
    return 0u;
}

// Eight codes, and by the group's first thread its scale and bias. group counts those of the line.
inline void store_codes(device uchar* out, device const QuantizeTile& t, thread const Group& g, ulong packed, uint line, uint group, uint unit) {
    device uchar* d = out + t.codes + line * t.line_bytes + (group * (t.group / 8u) + unit) * t.bits;
    if ((t.bits & 3u) == 0u) {
        *((device uint*)d) = uint(packed);
        if (t.bits == 8u) *((device uint*)(d + 4u)) = uint(packed >> 32);
    } else {
        for (uint i = 0u; i < t.bits; i++) d[i] = uchar(packed >> (8u * i));
    }
    if (unit != 0u) return;
    uint at = line * t.line_groups + group;
    if (t.mode != kAffine) {
        out[t.scales + at] = uchar(g.scale);
    } else if (t.to == kF32) {
        *((device uint*)(out + t.scales + 4u * at)) = g.scale;
        *((device uint*)(out + t.biases + 4u * at)) = g.bias;
    } else {
        *((device ushort*)(out + t.scales + 2u * at)) = ushort(g.scale);
        *((device ushort*)(out + t.biases + 2u * at)) = ushort(g.bias);
    }
}

// least and most have two halves, taken in turn, so that one barrier a round is enough.
template <typename Source>
inline void quantize_tile(device const uchar* in, device uchar* out, device const QuantizeTile& t, device Status& status,
                          threadgroup uint* least, threadgroup uint* most, uint tid, uint threads) {
    bool turned = t.transposed != 0u;
    uint units = t.group / 8u;       // threads of a group
    uint abreast = threads / units;  // groups at a time. Neighbouring threads read neighbouring elements
    uint mine = turned ? tid % abreast : tid / units;
    uint unit = turned ? tid / abreast : tid % units;
    uint lines = turned ? t.cols : t.rows;
    uint groups = (turned ? t.rows : t.cols) / t.group; // of a line
    uint met = 0u;
    uint turn = 0u;
    for (uint first = 0u; first < lines * groups; first += abreast) {
        uint n = min(first + mine, lines * groups - 1u); // what is beyond the last group does as the last, but stores nothing
        uint line = turned ? n % lines : n / groups;
        uint group = turned ? n / lines : n % groups;
        uint row = turned ? group * t.group : line;
        uint col = turned ? line : group * t.group;
        Eight v;
        Source::load(v, in, t, turned ? row + unit * 8u : row, turned ? col : col + unit * 8u);
        uint lo = 0xFFFFFFFFu;
        uint hi = 0u;
        for (uint i = 0u; i < 8u; i++) {
            v.x[i] = keep(t.to, v.x[i]);
            lo = min(lo, order_of(v.x[i]));
            hi = max(hi, order_of(v.x[i]));
        }
        least[turn + tid] = lo;
        most[turn + tid] = hi;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint i = 0u; i < units; i++) {
            uint other = turn + (turned ? i * abreast + mine : mine * units + i);
            lo = min(lo, least[other]);
            hi = max(hi, most[other]);
        }
        turn ^= 256u;
        bool finite = lo > order_of(kSign | kInfinity) && hi < order_of(kInfinity);
        if (t.cpu == 0u) hi = max(hi, order_of(0u));
        lo = in_order(lo);
        hi = in_order(hi);
        Group g = {finite, 0u, 0u, 0u, 0u, 0u};
        if (finite && t.mode == kAffine) {
            uint zero = t.bits == 1u && (lo & kMagnitude) == 0u ? first_zero<Source>(in, t, row, col) : 0u;
            affine_group(g, t, lo, hi, zero);
        } else if (finite) {
            uint amax = max(lo & kMagnitude, hi & kMagnitude);
            if (t.mode == kNVFP4) nv_group(g, t, amax);
            else mx_group(g, t, amax);
        }
        ulong packed = 0ul;
        if (g.finite) {
            for (uint i = 0u; i < 8u; i++) {
                uint code = t.mode == kAffine ? affine_code(g, t, v.x[i]) : fp_code(g, t, v.x[i]);
                packed |= ulong(code) << (i * t.bits);
            }
        } else {
            g.scale = 0u;
            g.bias = 0u;
            met = kMetGroup;
        }
        if (first + mine < lines * groups) store_codes(out, t, g, packed, line, group, unit);
    }
    if (met != 0u) status.met = met;
    if (tid == 0u) status.done = kDone;
}

#define QUANTIZE_KERNEL(NAME, SOURCE)                                                                                              \
    kernel void NAME(device const uchar* in [[buffer(0)]], device uchar* out [[buffer(1)]],                                        \
                     device const QuantizeTile* tiles [[buffer(2)]], device Status* status [[buffer(3)]],                          \
                     uint tile [[threadgroup_position_in_grid]], uint tid [[thread_index_in_threadgroup]],                         \
                     uint threads [[threads_per_threadgroup]]) {                                                                   \
        threadgroup uint least[512];                                                                                               \
        threadgroup uint most[512];                                                                                                \
        quantize_tile<SOURCE>(in, out, tiles[tile], status[tile], least, most, tid, threads);                                      \
    }

QUANTIZE_KERNEL(quantize_scale_f32, Codes<InF32>)
QUANTIZE_KERNEL(quantize_scale_bf16, Codes<InBF16>)
QUANTIZE_KERNEL(quantize_scale_f16, Codes<InF16>)
QUANTIZE_KERNEL(quantize_scale_e8m0, Codes<InE8M0>)
QUANTIZE_KERNEL(quantize_bf16, Plain<InBF16>)
QUANTIZE_KERNEL(quantize_f16, Plain<InF16>)
QUANTIZE_KERNEL(quantize_f32, Plain<InF32>)

// ------------------------------------------------------------------------------------------- yardstick
// What metalcast bench measures the others by: 16 bytes a thread.

kernel void copy16(device const uint4* in [[buffer(0)]], device uint4* out [[buffer(1)]], constant uint& count [[buffer(2)]],
                   uint i [[thread_position_in_grid]]) {
    if (i < count) out[i] = in[i];
}
