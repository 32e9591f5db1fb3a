// metalcast's kernels that quantize: block-scaled FP8 (E4M3FN), bf16, f16 or f32 to MLX's quantized formats. Compiled behind arithmetic.metal, when a
// conversion first quantizes.
//
// MLX's formats to the bit, of both its backends: package internal/mlxquant has the arithmetic and says what decides a bit. A thread takes eight
// consecutive elements of a group, whose codes are whole bytes. What a group's codes are made with is found by one thread for all of them: its divisions
// take longer than all the rest. The threads that do so are the first of the threadgroup, for SIMD groups without such a thread go past the divisions.
// Threads per threadgroup: a multiple of 32, at most 256.
//
// Experts are stacked, and gate's rows laid before up's, by the tiles' codes, scales and biases: the places of a matrix's first group in three stacks,
// whose rows follow each other.

// ------------------------------------------------------------------------------------------- arguments

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

constant uint kAffine = 0u;
constant uint kMXFP4 = 1u;
constant uint kMXFP8 = 2u;
constant uint kNVFP4 = 3u;

constant uint kBF16 = 0u;
constant uint kF16 = 1u;
constant uint kF32 = 2u;

// ------------------------------------------------------------------------------------------- arithmetic

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

// Where the n-th group of a tile begins. Neighbouring groups are neighbours in the source.
struct Start {
    uint line;
    uint group; // of the line
    uint row;
    uint col;
};
inline Start start_of(uint n, device const QuantizeTile& t) {
    if (t.transposed != 0u) {
        uint line = n % t.cols;
        uint group = n / t.cols;
        return Start{line, group, group * t.group, line};
    }
    uint groups = t.cols / t.group;
    uint line = n / groups;
    uint group = n - line * groups;
    return Start{line, group, line, group * t.group};
}

// What the codes of the n-th group are made with. lo and hi are its extremes in order_of.
template <typename Source>
inline void find_group(thread Group& g, device const uchar* in, device const QuantizeTile& t, uint n, uint lo, uint hi) {
    g.finite = lo > order_of(kSign | kInfinity) && hi < order_of(kInfinity);
    if (t.cpu == 0u) hi = max(hi, order_of(0u));
    lo = in_order(lo);
    hi = in_order(hi);
    if (g.finite && t.mode == kAffine) {
        Start at = start_of(n, t);
        uint zero = t.bits == 1u && (lo & kMagnitude) == 0u ? first_zero<Source>(in, t, at.row, at.col) : 0u;
        affine_group(g, t, lo, hi, zero);
    } else if (g.finite) {
        uint amax = max(lo & kMagnitude, hi & kMagnitude);
        if (t.mode == kNVFP4) nv_group(g, t, amax);
        else mx_group(g, t, amax);
    }
    if (!g.finite) {
        g.scale = 0u;
        g.bias = 0u;
    }
}

// A group in threadgroup memory: each word beside those of the other groups.
constant uint kGroups = 128u;
inline void share(threadgroup uint* to, thread const Group& g) {
    to[0] = g.finite ? 1u : 0u;
    to[kGroups] = g.scale;
    to[2u * kGroups] = g.bias;
    to[3u * kGroups] = g.origin;
    to[4u * kGroups] = g.unit;
    to[5u * kGroups] = g.inverse;
}
inline void learn(thread Group& g, threadgroup const uint* from) {
    g.finite = from[0] != 0u;
    g.scale = from[kGroups];
    g.bias = from[2u * kGroups];
    g.origin = from[3u * kGroups];
    g.unit = from[4u * kGroups];
    g.inverse = from[5u * kGroups];
}

template <typename Source>
inline void quantize_tile(device const uchar* in, device uchar* out, device const QuantizeTile& t, device Status& status,
                          threadgroup uint* least, threadgroup uint* most, threadgroup uint* found, uint tid, uint threads) {
    bool turned = t.transposed != 0u;
    uint units = t.group / 8u;       // threads of a group
    uint abreast = threads / units;  // groups at a time. Neighbouring threads read neighbouring elements
    uint mine = turned ? tid % abreast : tid / units;
    uint unit = turned ? tid / abreast : tid % units;
    uint all = t.rows * t.cols / t.group;
    uint met = 0u;
    for (uint first = 0u; first < all; first += abreast) {
        Start at = start_of(min(first + mine, all - 1u), t); // what is beyond the last group does as the last, but stores nothing
        Eight v;
        Source::load(v, in, t, turned ? at.row + unit * 8u : at.row, turned ? at.col : at.col + unit * 8u);
        uint lo = 0xFFFFFFFFu;
        uint hi = 0u;
        for (uint i = 0u; i < 8u; i++) {
            v.x[i] = keep(t.to, v.x[i]);
            lo = min(lo, order_of(v.x[i]));
            hi = max(hi, order_of(v.x[i]));
        }
        least[tid] = lo;
        most[tid] = hi;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        Group g = {false, 0u, 0u, 0u, 0u, 0u};
        if (tid < abreast) {
            lo = 0xFFFFFFFFu;
            hi = 0u;
            for (uint i = 0u; i < units; i++) {
                uint other = turned ? i * abreast + tid : tid * units + i;
                lo = min(lo, least[other]);
                hi = max(hi, most[other]);
            }
            find_group<Source>(g, in, t, min(first + tid, all - 1u), lo, hi);
            share(found + tid, g);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        learn(g, found + mine);
        ulong packed = 0ul;
        if (g.finite) {
            for (uint i = 0u; i < 8u; i++) {
                uint code = t.mode == kAffine ? affine_code(g, t, v.x[i]) : fp_code(g, t, v.x[i]);
                packed |= ulong(code) << (i * t.bits);
            }
        } else {
            met = kMetGroup;
        }
        if (first + mine < all) store_codes(out, t, g, packed, at.line, at.group, unit);
    }
    if (met != 0u) status.met = met;
    if (tid == 0u) status.done = kDone;
}

#define QUANTIZE_KERNEL(NAME, SOURCE)                                                                                              \
    kernel void NAME(device const uchar* in [[buffer(0)]], device uchar* out [[buffer(1)]],                                        \
                     device const QuantizeTile* tiles [[buffer(2)]], device Status* status [[buffer(3)]],                          \
                     uint tile [[threadgroup_position_in_grid]], uint tid [[thread_index_in_threadgroup]],                         \
                     uint threads [[threads_per_threadgroup]]) {                                                                   \
        threadgroup uint least[256];                                                                                               \
        threadgroup uint most[256];                                                                                                \
        threadgroup uint found[768];                                                                                               \
        quantize_tile<SOURCE>(in, out, tiles[tile], status[tile], least, most, found, tid, threads);                               \
    }

QUANTIZE_KERNEL(quantize_scale_f32, Codes<InF32>)
QUANTIZE_KERNEL(quantize_scale_bf16, Codes<InBF16>)
QUANTIZE_KERNEL(quantize_scale_f16, Codes<InF16>)
QUANTIZE_KERNEL(quantize_scale_e8m0, Codes<InE8M0>)
QUANTIZE_KERNEL(quantize_bf16, Plain<InBF16>)
QUANTIZE_KERNEL(quantize_f16, Plain<InF16>)
QUANTIZE_KERNEL(quantize_f32, Plain<InF32>)
