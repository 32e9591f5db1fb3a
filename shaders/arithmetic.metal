// What metalcast's compute kernels have in common: arithmetic on bit patterns, and how operands are loaded. MSL 2.4 (macOS 12, M1) or later.
// Two libraries are made of these texts, each behind this one: convert.metal, and quantize.metal, which takes longest to compile and which
// only a conversion that quantizes needs.
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
//
// The argument structs of all three texts are read by package metal too; its tests hold sizes and offsets equal.

#include <metal_stdlib>
using namespace metal;

// ------------------------------------------------------------------------------------------- status

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

inline bool is_infinite(uint f32bits) { return (f32bits & kMagnitude) == kInfinity; }

// ------------------------------------------------------------------------------------------- operands

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
