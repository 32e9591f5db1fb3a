// Package mlxquant quantizes rows to the formats of MLX, bit for bit as mlx.core.quantize of MLX
// 0.32.4 and therefore mlx_lm.convert -q do. It reads and writes memory, knows nothing about files,
// and is safe for concurrent use.
//
// A row is divided into groups of 16 to 128 consecutive elements that share a scale and, in affine
// formats, a bias. The elements become codes of a few bits, packed as one little-endian stream,
// least significant bit first: element i of a row has the stream's bits i*Bits to (i+1)*Bits. The
// bytes are those of MLX's array of uint32.
//
// # Profiles
//
// MLX's backends disagree on ties, on the sign of zero and on groups of zeros. On a Mac users get
// what its GPU computes: Profile Metal follows the kernels affine_quantize and fp_quantize
// (mlx/backend/metal/kernels/quantized.h, fp_quantized.h, fp4.h, fp8.h). Profile CPU follows
// quantize in mlx/backend/cpu/quantized.cpp and the fallback of fp_quantize in mlx/ops.cpp, as
// compiled for x86-64. MLX builds its kernels with -fno-fast-math, so their divisions are IEEE's. A
// GPU may treat subnormal operands in its own way; this package keeps them. They occur only with
// elements below 1e-36.
//
// # What decides a bit
//
// All arithmetic is float32, to nearest with ties to even, each operation rounded separately, never
// fused. T is the source type: narrowing is one such rounding to T. lo and hi are a group's exact
// extremes, amax is its exact greatest magnitude.
//
//	affine  Metal starts hi at +0, CPU at -infinity. n = 2^Bits-1
//	        s = (hi-lo)/n, at least 1e-7f; s = -s unless |lo| > |hi|
//	        edge = lo if |lo| > |hi|, else hi
//	        q = R(edge/s); if q is not 0: s = edge/q, b = edge; else b = +0
//	        code = min(R((x-b)/s), n), with the s that is not narrowed; scale = narrow(s), bias = b
//	        1 bit: s = hi-lo, at least 1e-7f, b = lo with its sign of zero
//	        R: Metal rounds ties away from zero, CPU to even
//	mx      r = amax/M, M 6 (fp4) or 448 (fp8); CPU narrows it
//	        e = least with 2^e >= r; scale = e+127
//	        Metal: e at least -127, also for r = 0; v = x * 2^-e
//	        CPU: e = 0 if r = 0; scale wraps to 8 bits; v = narrow(x / 2^e)
//	nvfp4   r = amax/6; CPU narrows it. scale = E4M3(r), to nearest even, at most 448; d its value
//	        Metal: i = 1/d, or 0 if d = 0; v = x*i
//	        CPU: v = narrow(x/d), code 0 if d = 0
//	fp8     code = E4M3(v), to nearest even, at most 448, the sign kept
//	fp4     Metal: ties to the even code, the sign kept
//	        CPU: ties to the smaller magnitude, no negative zero
//
// The CPU's fp4 is an argmin over |v-value| in float32, which from 2^22 on cannot distinguish the
// values; the result is then whatever that argmin yields. Only nvfp4 groups beyond 1e9 reach this.
//
// Every division is a real division: x*(1/s) has different bits. Affine elements are divided by
// s/2, which doubles the quotient exactly, and rounding away from zero is (trunc(2v)+1)/2 in
// integers; adding 0.5 first would round twice.
//
// # Vectors
//
// Rows are quantized with AVX-512 or NEON if the machine has it and the format has a loop: affine
// of 2 bits and more, and the fp modes in profile Metal. The operations are the same, one for one,
// including divisions. When a row contains a group that is refused, the Go code takes over from
// there, 16 groups at a time. The build tag purego leaves only the Go code.
//
// Go may fuse x*y+z on some machines (including arm64) unless the product is converted explicitly,
// so every product here is written float32(x*y).
package mlxquant
