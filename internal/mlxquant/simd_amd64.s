//go:build !purego

#include "textflag.h"

// The fields of a batch: see simd_amd64.go.
#define LO     0
#define HI     64
#define BY     128
#define BIAS   192
#define SCALES 256
#define BIASES 320
#define QUADS  384

#define CONSTANT(bits, to) \
	MOVL         $bits, AX \
	VPBROADCASTD AX, to

// POINTERS sets R10-R13 to the addresses of four groups from SI on, R9 bytes each, and moves SI
// past them. DX counts the groups after the one at SI: if there are none, that one is used again.
#define POINTER(to) \
	MOVQ    SI, to \
	XORL    AX, AX \
	DECQ    DX     \
	CMOVQGE R9, AX \
	ADDQ    AX, SI

#define POINTERS POINTER(R10) \
	POINTER(R11) \
	POINTER(R12) \
	POINTER(R13)

#define FORWARD \
	ADDQ $64, R10 \
	ADDQ $64, R11 \
	ADDQ $64, R12 \
	ADDQ $64, R13

// MERGE4 reduces the lanes of a, b, c and d: each quarter of a receives the results of that
// quarter, in order.
#define MERGE4(op, a, b, c, d, t, u) \
	VUNPCKLPS b, a, t \
	VUNPCKHPS b, a, u \
	op        t, u, a \
	VUNPCKLPS d, c, t \
	VUNPCKHPS d, c, u \
	op        t, u, c \
	VUNPCKLPD c, a, t \
	VUNPCKHPD c, a, u \
	op        t, u, a

// MERGE16 reduces the quarters of four results of MERGE4 at DI+at: Z0 receives the 16 values in
// order.
#define MERGE16(op, at) \
	VMOVUPS    at(DI), Z0             \
	VMOVUPS    (at+64)(DI), Z1        \
	VMOVUPS    (at+128)(DI), Z2       \
	VMOVUPS    (at+192)(DI), Z3       \
	VSHUFF32X4 $0x88, Z1, Z0, Z4 \
	VSHUFF32X4 $0xDD, Z1, Z0, Z5 \
	op         Z4, Z5, Z0        \
	VSHUFF32X4 $0x88, Z3, Z2, Z4 \
	VSHUFF32X4 $0xDD, Z3, Z2, Z5 \
	op         Z4, Z5, Z2        \
	VSHUFF32X4 $0x88, Z2, Z0, Z4 \
	VSHUFF32X4 $0xDD, Z2, Z0, Z5 \
	op         Z4, Z5, Z0

// BOTH updates the least and greatest with 16 elements of a group; K1 collects infinities and NaNs.
#define BOTH(from, least, greatest) \
	VMOVUPS    from, Z8               \
	VMINPS     Z8, least, least       \
	VMAXPS     Z8, greatest, greatest \
	VFPCLASSPSZ $0x99, Z8, K2         \
	KORW       K2, K1, K1

// func limits(c *batch, w *float32, vectors, groups int) (finite bool)
// The least and the greatest element of up to 16 groups of 16*vectors elements.
TEXT ·limits(SB), NOSPLIT, $0-33
	MOVQ c+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ vectors+16(FP), R8
	MOVQ groups+24(FP), DX
	DECQ DX
	MOVQ R8, R9
	SHLQ $6, R9
	KXORW K1, K1, K1
	XORL BX, BX

quad:
	POINTERS
	VMOVUPS (R10), Z0
	VMOVUPS (R11), Z1
	VMOVUPS (R12), Z2
	VMOVUPS (R13), Z3
	VMOVAPS Z0, Z4
	VMOVAPS Z1, Z5
	VMOVAPS Z2, Z6
	VMOVAPS Z3, Z7
	MOVQ R8, CX

vector:
	BOTH((R10), Z0, Z4)
	BOTH((R11), Z1, Z5)
	BOTH((R12), Z2, Z6)
	BOTH((R13), Z3, Z7)
	FORWARD
	DECQ CX
	JNZ vector
	MERGE4(VMINPS, Z0, Z1, Z2, Z3, Z8, Z9)
	MERGE4(VMAXPS, Z4, Z5, Z6, Z7, Z8, Z9)
	VMOVUPS Z0, QUADS(DI)(BX*1)
	VMOVUPS Z4, (QUADS+256)(DI)(BX*1)
	ADDL $64, BX
	CMPL BX, $256
	JLT quad
	MERGE16(VMINPS, QUADS)
	VMOVUPS Z0, LO(DI)
	MERGE16(VMAXPS, QUADS+256)
	VMOVUPS Z0, HI(DI)
	KORTESTW K1, K1
	SETEQ finite+32(FP)
	VZEROUPPER
	RET

#define LARGER(from, greatest) \
	VPANDD  from, Z16, Z8          \
	VPMAXSD Z8, greatest, greatest

// func magnitudes(c *batch, w *float32, vectors, groups int) (finite bool)
// The greatest magnitude of the elements of up to 16 groups, to HI.
TEXT ·magnitudes(SB), NOSPLIT, $0-33
	MOVQ c+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ vectors+16(FP), R8
	MOVQ groups+24(FP), DX
	DECQ DX
	MOVQ R8, R9
	SHLQ $6, R9
	CONSTANT(0x7FFFFFFF, Z16)
	XORL BX, BX

quad:
	POINTERS
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	MOVQ R8, CX

vector:
	LARGER((R10), Z0)
	LARGER((R11), Z1)
	LARGER((R12), Z2)
	LARGER((R13), Z3)
	FORWARD
	DECQ CX
	JNZ vector
	MERGE4(VPMAXSD, Z0, Z1, Z2, Z3, Z8, Z9)
	VMOVUPS Z0, QUADS(DI)(BX*1)
	ADDL $64, BX
	CMPL BX, $256
	JLT quad
	MERGE16(VPMAXSD, QUADS)
	VMOVUPS Z0, HI(DI)
	CONSTANT(0x7F800000, Z1)
	VPCMPD $5, Z1, Z0, K1 // at least infinity
	KORTESTW K1, K1
	SETEQ finite+32(FP)
	VZEROUPPER
	RET

// NARROW stores 16 elements as bfloat16, float16 or float32, for AX 0, 1 or 2, and clobbers from
// and its bits.
#define NARROW(from, at, float, half, done) \
	CMPL      AX, $1          \
	JEQ       half            \
	JGT       float           \
	VPSRLD    $16, from, Z17  \
	VPANDD    Z31, Z17, Z17   \
	VPADDD    Z17, from, from \
	VPADDD    Z30, from, from \
	VPSRLD    $16, from, from \
	VPMOVDW   from, at(DI)    \
	JMP       done            \
half:                         \
	VCVTPS2PH $0, from, at(DI) \
	JMP       done            \
float:                        \
	VMOVUPS   from, at(DI)    \
done:

// func affineScales(c *batch, most float32, away bool, from, infinite int) (fit bool)
// Computes from LO and HI the narrowed scales and biases, and BY and BIAS as the codes need them.
// from is 0 for bfloat16, 1 for float16, 2 for float32; infinite has the bits of the smallest
// number that rounds to infinity there; fit reports that no scale does. Z0 lo, Z1 hi, Z2 scale, Z3
// edge, Z4 quotient, Z5 rounded, Z6 bias; K1 where |lo| <= |hi|.
TEXT ·affineScales(SB), NOSPLIT, $0-33
	MOVQ c+0(FP), DI
	VBROADCASTSS most+8(FP), Z16
	MOVBLZX away+12(FP), CX
	CONSTANT(0x7FFFFFFF, Z20)
	CONSTANT(0x33D6BF95, Z21) // epsilon
	CONSTANT(0x3F000000, Z22) // 0.5
	CONSTANT(0x3F800000, Z23) // 1
	CONSTANT(0x80000000, Z24)
	CONSTANT(0x7F800000, Z25)
	CONSTANT(0x7FFF, Z30)
	CONSTANT(1, Z31)
	VPXORD Z7, Z7, Z7
	VMOVUPS LO(DI), Z0
	VMOVUPS HI(DI), Z1
	TESTL CX, CX
	JZ range
	VMAXPS Z7, Z1, Z1

range:
	VSUBPS Z0, Z1, Z2
	VDIVPS Z16, Z2, Z2
	VMAXPS Z21, Z2, Z2
	VPANDD Z20, Z0, Z8
	VPANDD Z20, Z1, Z9
	VCMPPS $2, Z9, Z8, K1
	VPXORD Z24, Z2, K1, Z2
	VMOVAPS Z0, Z3
	VMOVAPS Z1, K1, Z3
	VDIVPS Z2, Z3, Z4
	TESTL CX, CX
	JZ even
	VRNDSCALEPS $0x0B, Z4, Z5 // towards zero, plus one where a half or more was lost
	VSUBPS Z5, Z4, Z8
	VPANDD Z20, Z8, Z8
	VCMPPS $0x1D, Z22, Z8, K2
	VPANDD Z24, Z4, Z9
	VPORD Z23, Z9, Z9
	VADDPS Z9, Z5, K2, Z5
	JMP rounded

even:
	VRNDSCALEPS $0x08, Z4, Z5

rounded:
	VCMPPS $4, Z7, Z5, K3
	VDIVPS Z5, Z3, K3, Z2
	VMOVAPS.Z Z3, K3, Z6
	VMOVUPS Z6, BIAS(DI)
	VMOVAPS Z2, Z10
	TESTL CX, CX
	JZ whole
	VMULPS Z22, Z2, Z10

whole:
	VCMPPS $0, Z7, Z2, K4 // all elements equal and beyond 1e31: their codes are 0
	VMOVAPS Z25, K4, Z10
	VMOVUPS Z10, BY(DI)
	VPANDD Z20, Z2, Z8
	VPBROADCASTD infinite+24(FP), Z9
	VPCMPUD $5, Z9, Z8, K5
	KORTESTW K5, K5
	SETEQ fit+32(FP)
	MOVQ from+16(FP), AX
	NARROW(Z2, SCALES, float1, half1, done1)
	NARROW(Z6, BIASES, float2, half2, done2)
	VZEROUPPER
	RET

// The loops over elements: SI elements, DI codes, BX batch, R8 groups, R9 vectors per group. Z0 and
// Z1 are the group's BIAS and BY.
#define CODES(element, store) \
group:                        \
	VBROADCASTSS BIAS(BX), Z0 \
	VBROADCASTSS BY(BX), Z1   \
	ADDQ $4, BX               \
	MOVQ R9, CX               \
vector:                       \
	VMOVUPS (SI), Z2          \
	element                   \
	store                     \
	ADDQ $64, SI              \
	DECQ CX                   \
	JNZ  vector               \
	DECQ R8                   \
	JNZ  group                \
	VZEROUPPER

#define NIBBLES \
	VPSRLQ  $28, Z2, Z3 \
	VPORQ   Z3, Z2, Z2  \
	VPMOVQB Z2, (DI)    \
	ADDQ    $8, DI

#define BYTES \
	VPMOVDB Z2, (DI) \
	ADDQ    $16, DI

// AWAY: BY is half a scale, so the quotient is doubled. Z30 is the greatest code, Z31 1.
#define AWAY \
	VSUBPS     Z0, Z2, Z2  \
	VDIVPS     Z1, Z2, Z2  \
	VCVTTPS2DQ Z2, Z2      \
	VPADDD     Z31, Z2, Z2 \
	VPSRAD     $1, Z2, Z2  \
	VPMINSD    Z30, Z2, Z2

#define EVEN \
	VSUBPS    Z0, Z2, Z2  \
	VDIVPS    Z1, Z2, Z2  \
	VCVTPS2DQ Z2, Z2      \
	VPMINSD   Z30, Z2, Z2

// func away4(codes *byte, w *float32, c *batch, vectors, groups, most int)
TEXT ·away4(SB), NOSPLIT, $0-48
	MOVQ codes+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ c+16(FP), BX
	MOVQ vectors+24(FP), R9
	MOVQ groups+32(FP), R8
	VPBROADCASTD most+40(FP), Z30
	CONSTANT(1, Z31)
	CODES(AWAY, NIBBLES)
	RET

// func away8(codes *byte, w *float32, c *batch, vectors, groups, most int)
TEXT ·away8(SB), NOSPLIT, $0-48
	MOVQ codes+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ c+16(FP), BX
	MOVQ vectors+24(FP), R9
	MOVQ groups+32(FP), R8
	VPBROADCASTD most+40(FP), Z30
	CONSTANT(1, Z31)
	CODES(AWAY, BYTES)
	RET

// func even4(codes *byte, w *float32, c *batch, vectors, groups, most int)
TEXT ·even4(SB), NOSPLIT, $0-48
	MOVQ codes+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ c+16(FP), BX
	MOVQ vectors+24(FP), R9
	MOVQ groups+32(FP), R8
	VPBROADCASTD most+40(FP), Z30
	CODES(EVEN, NIBBLES)
	RET

// func even8(codes *byte, w *float32, c *batch, vectors, groups, most int)
TEXT ·even8(SB), NOSPLIT, $0-48
	MOVQ codes+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ c+16(FP), BX
	MOVQ vectors+24(FP), R9
	MOVQ groups+32(FP), R8
	VPBROADCASTD most+40(FP), Z30
	CODES(EVEN, BYTES)
	RET

// func mxScales(c *batch, most float32)
// Computes from the magnitudes in HI the biased exponents, to SCALES as bytes, and the powers of
// two to multiply by, to BY.
TEXT ·mxScales(SB), NOSPLIT, $0-12
	MOVQ c+0(FP), DI
	VBROADCASTSS most+8(FP), Z1
	VMOVUPS HI(DI), Z0
	VDIVPS Z1, Z0, Z0
	CONSTANT(0x7FFFFF, Z1)
	CONSTANT(0x400000, Z2) // 2^-127
	CONSTANT(254, Z3)
	VPCMPUD $6, Z2, Z0, K1
	VPADDD Z1, Z0, Z0
	VPSRLD.Z $23, Z0, K1, Z0
	VPMOVDB Z0, SCALES(DI)
	VPSUBD Z0, Z3, Z0
	VPSLLD $23, Z0, Z0
	VMOVUPS Z0, BY(DI)
	VZEROUPPER
	RET

// E4M3 rounds the elements in Z2 to codes; see toE4M3. Z16 is float32's magnitude, Z17 2^-6, Z18
// infinity, Z19 20<<23, Z20 0x7E, Z21 0x80.
#define E4M3 \
	VPANDD  Z16, Z2, Z3 \
	VPSRLD  $24, Z2, Z2 \
	VPMAXUD Z17, Z3, Z4 \
	VPANDD  Z18, Z4, Z4 \
	VPADDD  Z19, Z4, Z5 \
	VPMINUD Z18, Z5, Z5 \
	VADDPS  Z5, Z3, Z3  \
	VPSUBD  Z5, Z3, Z3  \
	VPSUBD  Z17, Z4, Z4 \
	VPSRLD  $20, Z4, Z4 \
	VPADDD  Z4, Z3, Z3  \
	VPMINUD Z20, Z3, Z3 \
	VPTERNLOGD $0xF8, Z21, Z2, Z3 // Z3 | Z2&Z21

#define E4M3CONSTANTS \
	CONSTANT(0x7FFFFFFF, Z16) \
	CONSTANT(0x3C800000, Z17) \
	CONSTANT(0x7F800000, Z18) \
	CONSTANT(0x0A000000, Z19) \
	CONSTANT(0x7E, Z20)       \
	CONSTANT(0x80, Z21)

// func nvScales(c *batch)
// Computes from the magnitudes in HI the scales, to SCALES as bytes, and their reciprocals, or 0
// for 0, to BY.
TEXT ·nvScales(SB), NOSPLIT, $0-8
	MOVQ c+0(FP), DI
	E4M3CONSTANTS
	CONSTANT(0x40C00000, Z1) // 6
	CONSTANT(0x43800000, Z6) // 2^8
	CONSTANT(0x3F800000, Z7) // 1
	VMOVUPS HI(DI), Z2
	VDIVPS Z1, Z2, Z2
	E4M3
	VPMOVDB Z3, SCALES(DI)
	VPTESTMD Z3, Z3, K1
	VPSLLD $7, Z3, Z3 // as float16, 2^-8 of its value
	VPMOVDW Z3, Y3
	VCVTPH2PS Y3, Z3
	VMULPS Z6, Z3, Z3
	VDIVPS.Z Z3, Z7, K1, Z3
	VMOVUPS Z3, BY(DI)
	VZEROUPPER
	RET

#define EIGHT \
	VMULPS  Z1, Z2, Z2 \
	E4M3               \
	VMOVDQA64 Z3, Z2

// FOUR finds an element's cell; see evenE2M1. Z16 is float32's magnitude, Z17 1, Z18 the first
// cell, Z19 31, Z20 0, Z21 8, Z22 and Z23 the codes.
#define FOUR \
	VMULPS   Z1, Z2, Z2   \
	VPANDD   Z16, Z2, Z3  \
	VPSRLD   $22, Z3, Z4  \
	VPANDD   Z17, Z4, Z4  \
	VPSUBD   Z17, Z3, Z3  \
	VPADDD   Z4, Z3, Z3   \
	VPSRAD   $21, Z3, Z3  \
	VPSUBD   Z18, Z3, Z3  \
	VPMAXSD  Z20, Z3, Z3  \
	VPMINSD  Z19, Z3, Z3  \
	VPERMI2D Z23, Z22, Z3 \
	VPSRLD   $28, Z2, Z2  \
	VPTERNLOGD $0xF8, Z21, Z2, Z3 \
	VMOVDQA64 Z3, Z2

// func fp8(codes *byte, w *float32, c *batch, vectors, groups int)
TEXT ·fp8(SB), NOSPLIT, $0-40
	MOVQ codes+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ c+16(FP), BX
	MOVQ vectors+24(FP), R9
	MOVQ groups+32(FP), R8
	E4M3CONSTANTS
	CODES(EIGHT, BYTES)
	RET

// func fp4(codes *byte, w *float32, c *batch, vectors, groups int, cells *byte)
TEXT ·fp4(SB), NOSPLIT, $0-48
	MOVQ codes+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ c+16(FP), BX
	MOVQ vectors+24(FP), R9
	MOVQ groups+32(FP), R8
	MOVQ cells+40(FP), R10
	VPMOVZXBD (R10), Z22
	VPMOVZXBD 16(R10), Z23
	CONSTANT(0x7FFFFFFF, Z16)
	CONSTANT(1, Z17)
	CONSTANT(0x1F3, Z18)
	CONSTANT(31, Z19)
	VPXORD Z20, Z20, Z20
	CONSTANT(8, Z21)
	CODES(FOUR, NIBBLES)
	RET

// func squeeze8(dst, src *byte, mask uint64, bits, n int)
// Packs n times eight codes of one byte each into bits bytes. Every store has eight bytes, so dst
// has at least n*bits+8-bits.
TEXT ·squeeze8(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ mask+16(FP), DX
	MOVQ bits+24(FP), R8
	MOVQ n+32(FP), CX

eight:
	MOVQ (SI), AX
	PEXTQ DX, AX, AX
	MOVQ AX, (DI)
	ADDQ $8, SI
	ADDQ R8, DI
	DECQ CX
	JNZ eight
	RET

// func widenBF16(dst *float32, src *byte, n int)
TEXT ·widenBF16(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

some:
	VPMOVZXWD (SI), Z0
	VPSLLD $16, Z0, Z0
	VMOVDQU32 Z0, (DI)
	ADDQ $32, SI
	ADDQ $64, DI
	SUBQ $16, CX
	JNZ some
	VZEROUPPER
	RET

// func widenF16(dst *float32, src *byte, n int)
TEXT ·widenF16(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

some:
	VCVTPH2PS (SI), Z0
	VMOVDQU32 Z0, (DI)
	ADDQ $32, SI
	ADDQ $64, DI
	SUBQ $16, CX
	JNZ some
	VZEROUPPER
	RET
