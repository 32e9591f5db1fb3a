//go:build !purego

#include "textflag.h"

// Instructions that the assembler has no name for, on four floats or 32-bit integers: d = n op m,
// by register numbers.
#define FADD(m, n, d)   WORD $(0x4E20D400 | m<<16 | n<<5 | d)
#define FSUB(m, n, d)   WORD $(0x4EA0D400 | m<<16 | n<<5 | d)
#define FMUL(m, n, d)   WORD $(0x6E20DC00 | m<<16 | n<<5 | d)
#define FDIV(m, n, d)   WORD $(0x6E20FC00 | m<<16 | n<<5 | d)
#define FMAX(m, n, d)   WORD $(0x4E20F400 | m<<16 | n<<5 | d) // NaN if either is
#define FMIN(m, n, d)   WORD $(0x4EA0F400 | m<<16 | n<<5 | d)
#define FMAXV(n, d)     WORD $(0x6E30F800 | n<<5 | d)
#define FMINV(n, d)     WORD $(0x6EB0F800 | n<<5 | d)
#define FCVTZS(n, d)    WORD $(0x4EA1B800 | n<<5 | d)
#define FCVTNS(n, d)    WORD $(0x4E21A800 | n<<5 | d)
#define FCVTL(n, d)     WORD $(0x0E217800 | n<<5 | d)
#define FCVTL2(n, d)    WORD $(0x4E217800 | n<<5 | d)
#define SMAX(m, n, d)   WORD $(0x4EA06400 | m<<16 | n<<5 | d)
#define SMIN(m, n, d)   WORD $(0x4EA06C00 | m<<16 | n<<5 | d)
#define UMAXV(n, d)     WORD $(0x6EB0A800 | n<<5 | d)
#define SSHR1(n, d)     WORD $(0x4F3F0400 | n<<5 | d)
#define SSHR21(n, d)    WORD $(0x4F2B0400 | n<<5 | d)

#define CONSTANT(bits, to) \
	MOVD $bits, R9 \
	VDUP R9, to

// func limits(w *float32, n int) (lo, hi float32)
// The least and the greatest of n elements, a multiple of 16; NaN if one is.
TEXT ·limits(SB), NOSPLIT, $0-24
	MOVD w+0(FP), R0
	MOVD n+8(FP), R1
	VLD1 (R0), [V4.S4, V5.S4, V6.S4, V7.S4]
	VMOV V4.B16, V16.B16
	VMOV V5.B16, V17.B16
	VMOV V6.B16, V18.B16
	VMOV V7.B16, V19.B16

some:
	VLD1.P 64(R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	FMIN(0, 4, 4)
	FMIN(1, 5, 5)
	FMIN(2, 6, 6)
	FMIN(3, 7, 7)
	FMAX(0, 16, 16)
	FMAX(1, 17, 17)
	FMAX(2, 18, 18)
	FMAX(3, 19, 19)
	SUBS $16, R1, R1
	BNE some
	FMIN(5, 4, 4)
	FMIN(7, 6, 6)
	FMIN(6, 4, 4)
	FMAX(17, 16, 16)
	FMAX(19, 18, 18)
	FMAX(18, 16, 16)
	FMINV(4, 4)
	FMAXV(16, 16)
	FMOVS F4, lo+16(FP)
	FMOVS F16, hi+20(FP)
	RET

// func greatest(w *float32, n int) (bits uint32)
// The bits of the greatest magnitude of n elements, a multiple of 16.
TEXT ·greatest(SB), NOSPLIT, $0-20
	MOVD w+0(FP), R0
	MOVD n+8(FP), R1
	CONSTANT(0x7FFFFFFF, V16.S4)
	VEOR V4.B16, V4.B16, V4.B16
	VEOR V5.B16, V5.B16, V5.B16

some:
	VLD1.P 64(R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	VAND V16.B16, V0.B16, V0.B16
	VAND V16.B16, V1.B16, V1.B16
	VAND V16.B16, V2.B16, V2.B16
	VAND V16.B16, V3.B16, V3.B16
	VUMAX V1.S4, V0.S4, V0.S4
	VUMAX V3.S4, V2.S4, V2.S4
	VUMAX V0.S4, V4.S4, V4.S4
	VUMAX V2.S4, V5.S4, V5.S4
	SUBS $16, R1, R1
	BNE some
	VUMAX V5.S4, V4.S4, V4.S4
	UMAXV(4, 4)
	FMOVS F4, bits+16(FP)
	RET

// BYTES converts the codes in V0-V3 to bytes in V0.
#define BYTES \
	VUZP1 V1.H8, V0.H8, V0.H8   \
	VUZP1 V3.H8, V2.H8, V2.H8   \
	VUZP1 V2.B16, V0.B16, V0.B16

// NIBBLES stores the codes in the bytes of V0, two per byte.
#define NIBBLES \
	VUZP1 V0.B16, V0.B16, V1.B16 \
	VUZP2 V0.B16, V0.B16, V2.B16 \
	VSHL  $4, V2.B16, V2.B16     \
	VORR  V2.B16, V1.B16, V1.B16 \
	VST1.P [V1.B8], 8(R0)

// The loops over elements: R0 codes, R1 elements, R2 their number; V16 the group's bias or
// reciprocal, V17 the divisor.
#define QUOTIENTS(a) \
	FSUB(16, a, a) \
	FDIV(17, a, a)

#define AWAY(a, v) \
	FCVTZS(a, a)       \
	VADD V19.S4, v, v  \
	SSHR1(a, a)        \
	SMIN(18, a, a)

#define EVEN(a) \
	FCVTNS(a, a)   \
	SMIN(18, a, a)

// func away(codes *byte, w *float32, n int, b, half float32, most uint32, nibbles bool)
TEXT ·away(SB), NOSPLIT, $0-37
	MOVD codes+0(FP), R0
	MOVD w+8(FP), R1
	MOVD n+16(FP), R2
	MOVWU b+24(FP), R9
	VDUP R9, V16.S4
	MOVWU half+28(FP), R9
	VDUP R9, V17.S4
	MOVWU most+32(FP), R9
	VDUP R9, V18.S4
	MOVBU nibbles+36(FP), R3
	CONSTANT(1, V19.S4)

some:
	VLD1.P 64(R1), [V0.S4, V1.S4, V2.S4, V3.S4]
	QUOTIENTS(0)
	QUOTIENTS(1)
	QUOTIENTS(2)
	QUOTIENTS(3)
	AWAY(0, V0.S4)
	AWAY(1, V1.S4)
	AWAY(2, V2.S4)
	AWAY(3, V3.S4)
	BYTES
	CBZ R3, bytes
	NIBBLES
	SUBS $16, R2, R2
	BNE some
	RET

bytes:
	VST1.P [V0.B16], 16(R0)
	SUBS $16, R2, R2
	BNE some
	RET

// func even(codes *byte, w *float32, n int, b, s float32, most uint32, nibbles bool)
TEXT ·even(SB), NOSPLIT, $0-37
	MOVD codes+0(FP), R0
	MOVD w+8(FP), R1
	MOVD n+16(FP), R2
	MOVWU b+24(FP), R9
	VDUP R9, V16.S4
	MOVWU s+28(FP), R9
	VDUP R9, V17.S4
	MOVWU most+32(FP), R9
	VDUP R9, V18.S4
	MOVBU nibbles+36(FP), R3

some:
	VLD1.P 64(R1), [V0.S4, V1.S4, V2.S4, V3.S4]
	QUOTIENTS(0)
	QUOTIENTS(1)
	QUOTIENTS(2)
	QUOTIENTS(3)
	EVEN(0)
	EVEN(1)
	EVEN(2)
	EVEN(3)
	BYTES
	CBZ R3, bytes
	NIBBLES
	SUBS $16, R2, R2
	BNE some
	RET

bytes:
	VST1.P [V0.B16], 16(R0)
	SUBS $16, R2, R2
	BNE some
	RET

// E4M3 rounds elements to codes; see toE4M3. V18 is float32's magnitude, V19 2^-6, V20 infinity,
// V21 20<<23, V22 0x7E, V23 0x80.
#define E4M3(a, v, vb) \
	FMUL(16, a, a)               \
	VAND  V18.B16, vb, V4.B16    \
	VUSHR $24, v, v              \
	VAND  V23.B16, vb, vb        \
	VUMAX V19.S4, V4.S4, V5.S4   \
	VAND  V20.B16, V5.B16, V5.B16 \
	VADD  V21.S4, V5.S4, V6.S4   \
	VUMIN V20.S4, V6.S4, V6.S4   \
	FADD(6, 4, 4)                \
	VSUB  V6.S4, V4.S4, V4.S4    \
	VSUB  V19.S4, V5.S4, V5.S4   \
	VUSHR $20, V5.S4, V5.S4      \
	VADD  V5.S4, V4.S4, V4.S4    \
	VUMIN V22.S4, V4.S4, V4.S4   \
	VORR  V4.B16, vb, vb

// func fp8(codes *byte, w *float32, n int, inverse float32)
TEXT ·fp8(SB), NOSPLIT, $0-28
	MOVD codes+0(FP), R0
	MOVD w+8(FP), R1
	MOVD n+16(FP), R2
	MOVWU inverse+24(FP), R9
	VDUP R9, V16.S4
	CONSTANT(0x7FFFFFFF, V18.S4)
	CONSTANT(0x3C800000, V19.S4)
	CONSTANT(0x7F800000, V20.S4)
	CONSTANT(0x0A000000, V21.S4)
	CONSTANT(0x7E, V22.S4)
	CONSTANT(0x80, V23.S4)

some:
	VLD1.P 64(R1), [V0.S4, V1.S4, V2.S4, V3.S4]
	E4M3(0, V0.S4, V0.B16)
	E4M3(1, V1.S4, V1.B16)
	E4M3(2, V2.S4, V2.B16)
	E4M3(3, V3.S4, V3.B16)
	BYTES
	VST1.P [V0.B16], 16(R0)
	SUBS $16, R2, R2
	BNE some
	RET

// CELL finds an element's cell; see evenE2M1. V18 is float32's magnitude, V19 1, V20 the first
// cell, V21 31, V22 0.
#define CELL(a, v, vb) \
	FMUL(16, a, a)               \
	VAND  V18.B16, vb, V4.B16    \
	VUSHR $22, V4.S4, V5.S4      \
	VAND  V19.B16, V5.B16, V5.B16 \
	VSUB  V19.S4, V4.S4, V4.S4   \
	VADD  V5.S4, V4.S4, V4.S4    \
	SSHR21(4, 4)                 \
	VSUB  V20.S4, V4.S4, V4.S4   \
	SMAX(22, 4, 4)               \
	SMIN(21, 4, 4)               \
	VUSHR $31, v, v              \
	VSHL  $5, v, v               \
	VORR  V4.B16, vb, vb

// func fp4(codes *byte, w *float32, n int, inverse float32, cells *byte)
TEXT ·fp4(SB), NOSPLIT, $0-40
	MOVD codes+0(FP), R0
	MOVD w+8(FP), R1
	MOVD n+16(FP), R2
	MOVWU inverse+24(FP), R9
	VDUP R9, V16.S4
	MOVD cells+32(FP), R3
	VLD1 (R3), [V24.B16, V25.B16, V26.B16, V27.B16]
	CONSTANT(0x7FFFFFFF, V18.S4)
	CONSTANT(1, V19.S4)
	CONSTANT(0x1F3, V20.S4)
	CONSTANT(31, V21.S4)
	VEOR V22.B16, V22.B16, V22.B16

some:
	VLD1.P 64(R1), [V0.S4, V1.S4, V2.S4, V3.S4]
	CELL(0, V0.S4, V0.B16)
	CELL(1, V1.S4, V1.B16)
	CELL(2, V2.S4, V2.B16)
	CELL(3, V3.S4, V3.B16)
	BYTES
	VTBL V0.B16, [V24.B16, V25.B16, V26.B16, V27.B16], V0.B16
	NIBBLES
	SUBS $16, R2, R2
	BNE some
	RET

// func widenBF16(dst *float32, src *byte, n int)
TEXT ·widenBF16(SB), NOSPLIT, $0-24
	MOVD dst+0(FP), R0
	MOVD src+8(FP), R1
	MOVD n+16(FP), R2
	VEOR V4.B16, V4.B16, V4.B16

some:
	VLD1.P 16(R1), [V0.H8]
	VZIP1 V0.H8, V4.H8, V2.H8
	VZIP2 V0.H8, V4.H8, V3.H8
	VST1.P [V2.S4, V3.S4], 32(R0)
	SUBS $8, R2, R2
	BNE some
	RET

// func widenF16(dst *float32, src *byte, n int)
TEXT ·widenF16(SB), NOSPLIT, $0-24
	MOVD dst+0(FP), R0
	MOVD src+8(FP), R1
	MOVD n+16(FP), R2

some:
	VLD1.P 16(R1), [V0.H8]
	FCVTL(0, 2)
	FCVTL2(0, 3)
	VST1.P [V2.S4, V3.S4], 32(R0)
	SUBS $8, R2, R2
	BNE some
	RET
