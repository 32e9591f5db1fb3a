//go:build !purego

#include "textflag.h"

DATA spread<>+0(SB)/8, $0
DATA spread<>+8(SB)/8, $4
DATA spread<>+16(SB)/8, $1
DATA spread<>+24(SB)/8, $5
DATA spread<>+32(SB)/8, $2
DATA spread<>+40(SB)/8, $6
DATA spread<>+48(SB)/8, $3
DATA spread<>+56(SB)/8, $7
GLOBL spread<>(SB), RODATA|NOPTR, $64

// LOOKUP: 64 codes in Z6, their quarters spread over the lanes as unpacking wants them, become results in Z8 and Z9. A table's low bytes lie in
// Z0 and Z1, its high bytes in Z2 and Z3, for negative codes in Z4 and Z5. Z16 keeps the greatest code shifted left by one.
#define LOOKUP \
	VPADDB     Z6, Z6, Z7     \
	VPMAXUB    Z7, Z16, Z16   \
	VPMOVB2M   Z6, K1         \
	VMOVDQA64  Z6, Z7         \
	VMOVDQA64  Z6, Z8         \
	VPERMI2B   Z1, Z0, Z6     \
	VPERMI2B   Z3, Z2, Z7     \
	VPERMI2B   Z5, Z4, Z8     \
	VMOVDQU8   Z8, K1, Z7     \
	VPUNPCKLBW Z7, Z6, Z8     \
	VPUNPCKHBW Z7, Z6, Z9

// func lookup16(dst, src *byte, t *uint16, head, width, n int, stream bool) (nan bool)
// DI dst, SI src, BX table, DX codes of the block at most, CX codes of the block, R8 codes left.
TEXT ·lookup16(SB), NOSPLIT, $0-57
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ t+16(FP), BX
	MOVQ head+24(FP), DX
	MOVQ width+32(FP), R9
	MOVQ n+40(FP), R8
	MOVBLZX stream+48(FP), R10
	DECQ R10 // 0 to stream
	VMOVDQU64 spread<>(SB), Z17
	VPXORD Z16, Z16, Z16

block:
	VMOVDQU64 (BX), Z0
	VMOVDQU64 64(BX), Z1
	VMOVDQU64 128(BX), Z2
	VMOVDQU64 192(BX), Z3
	VMOVDQU64 256(BX), Z4
	VMOVDQU64 320(BX), Z5
	MOVQ DX, CX
	CMPQ CX, R8
	CMOVQGT R8, CX
	SUBQ CX, R8
	MOVQ DI, AX
	ANDQ $63, AX
	ORQ  R10, AX
	JZ   streams // past the caches, where whole lines can be written

plain:
	SUBQ $64, CX
	JLT  rest
	VPERMQ (SI), Z17, Z6
	LOOKUP
	VMOVDQU64 Z8, (DI)
	VMOVDQU64 Z9, 64(DI)
	ADDQ $64, SI
	ADDQ $128, DI
	JMP  plain

streams:
	SUBQ $64, CX
	JLT  rest
	VPERMQ (SI), Z17, Z6
	LOOKUP
	VMOVNTDQ Z8, (DI)
	VMOVNTDQ Z9, 64(DI)
	ADDQ $64, SI
	ADDQ $128, DI
	JMP  streams

rest:
	ADDQ $64, CX
	JZ   next
	MOVQ $-1, AX
	BZHIQ CX, AX, AX
	KMOVQ AX, K2
	VMOVDQU8.Z (SI), K2, Z6
	VPERMQ Z6, Z17, Z6
	LOOKUP
	KMOVD K2, K3
	KSHIFTRQ $32, K2, K2
	VMOVDQU16 Z8, K3, (DI)
	VMOVDQU16 Z9, K2, 64(DI)
	ADDQ CX, SI
	LEAQ (DI)(CX*2), DI

next:
	ADDQ $512, BX
	MOVQ R9, DX
	TESTQ R8, R8
	JNZ  block
	MOVL $0xFE, AX
	VPBROADCASTB AX, Z0
	VPCMPEQB Z0, Z16, K1
	KORTESTQ K1, K1
	SETNE nan+56(FP)
	VZEROUPPER
	RET

// func storeFence()
TEXT ·storeFence(SB), NOSPLIT, $0-0
	SFENCE
	RET

// TABLE stores 16 results, the words of Z2, in the table at DI, to the places of LOOKUP. K1 has the NaN among them, Z6 is 0x80.
#define TABLE \
	KNOTW   K1, K1           \
	VPMOVDB Z2, (DI)         \
	VPSRLD  $8, Z2, Z2       \
	VPMOVDB Z2, 128(DI)      \
	VPXORD  Z6, Z2, K1, Z2   \
	VPMOVDB Z2, 256(DI)      \
	ADDQ    $64, SI          \
	ADDQ    $16, DI          \
	DECL    CX

// func fill16(t *uint16, scale float32, half bool)
// The products of the 128 magnitudes, NaN canonical, rounded to bfloat16 or float16.
TEXT ·fill16(SB), NOSPLIT, $0-13
	MOVQ t+0(FP), DI
	LEAQ ·e4m3(SB), SI
	VBROADCASTSS scale+8(FP), Z0
	MOVL $0x7FC00000, AX
	VPBROADCASTD AX, Z1
	MOVL $0x7FFF, AX
	VPBROADCASTD AX, Z3
	MOVL $1, AX
	VPBROADCASTD AX, Z4
	MOVL $0x80, AX
	VPBROADCASTD AX, Z6
	MOVL $8, CX
	CMPB half+12(FP), $0
	JNE  half

brain:
	VMULPS (SI), Z0, Z2
	VCMPPS $3, Z2, Z2, K1
	VMOVDQA32 Z1, K1, Z2
	VPSRLD $16, Z2, Z5
	VPANDD Z4, Z5, Z5
	VPADDD Z5, Z2, Z2
	VPADDD Z3, Z2, Z2
	VPSRLD $16, Z2, Z2
	TABLE
	JNZ  brain
	VZEROUPPER
	RET

half:
	VMULPS (SI), Z0, Z2
	VCMPPS $3, Z2, Z2, K1
	VMOVDQA32 Z1, K1, Z2
	VCVTPS2PH $0, Z2, Y2
	VPMOVZXWD Y2, Z2
	TABLE
	JNZ  half
	VZEROUPPER
	RET

// PRODUCT: 16 codes in the words of Y4 become their products with the scale in Z0, NaN canonical, in Z5. A code's bits are a float16 of 2^-8 its value, but
// for NaN, which Y29 has; Y28 is 0x007F, Y30 0xBFFF, in words; Z31 is 2^8, Z27 the canonical NaN. K1 gets the NaN codes.
#define PRODUCT \
	VPANDD    Y28, Y4, Y5      \
	VPCMPEQW  Y28, Y5, K1      \
	VPSLLW    $8, Y4, Y4       \
	VPSRAW    $1, Y4, Y4       \
	VPANDD    Y30, Y4, Y4      \
	VMOVDQU16 Y29, K1, Y4      \
	VCVTPH2PS Y4, Z5           \
	VMULPS    Z31, Z5, Z5      \
	VMULPS    Z0, Z5, Z5       \
	VCMPPS    $3, Z5, Z5, K2   \
	VMOVDQA32 Z27, K2, Z5      \
	KORW      K1, K3, K3

// BRAIN, HALF, WHOLE: results of 16 products. Z26 is 0x7FFF, Z25 1. Z24 keeps the greatest magnitude, of which Z23 is the mask.
#define BRAIN \
	VPSRLD    $16, Z5, Z6      \
	VPANDD    Z25, Z6, Z6      \
	VPADDD    Z26, Z5, Z5      \
	VPADDD    Z6, Z5, Z5       \
	VPSRLD    $16, Z5, Z5      \
	VPANDD    Z23, Z5, Z6      \
	VPMAXUD   Z6, Z24, Z24     \
	VPMOVDW   Z5, Y5

#define HALF \
	VCVTPS2PH $0, Z5, Y5       \
	VPMOVZXWD Y5, Z6           \
	VPANDD    Z23, Z6, Z6      \
	VPMAXUD   Z6, Z24, Z24

#define WHOLE \
	VPANDD    Z23, Z5, Z6      \
	VPMAXUD   Z6, Z24, Z24

// MULTIPLY is a function over blocks of one scale each: DI dst, SI src, BX scale, R11 the bytes to the next, DX codes of the block at most, CX codes of the
// block, R8 codes left. It leaves the greatest magnitude in AX, whether there was a NaN code in CX.
#define MULTIPLY(mask, round, size, result, store) \
	MOVL $0x007F, AX               \
	VPBROADCASTW AX, Y28           \
	MOVL $0x7E00, AX               \
	VPBROADCASTW AX, Y29           \
	MOVL $0xBFFF, AX               \
	VPBROADCASTW AX, Y30           \
	MOVL $0x43800000, AX           \
	VPBROADCASTD AX, Z31           \
	MOVL $0x7FC00000, AX           \
	VPBROADCASTD AX, Z27           \
	MOVL $0x7FFF, AX               \
	VPBROADCASTD AX, Z26           \
	MOVL $1, AX                    \
	VPBROADCASTD AX, Z25           \
	MOVL $mask, AX                 \
	VPBROADCASTD AX, Z23           \
	VPXORD Z24, Z24, Z24           \
	KXORW K3, K3, K3               \
block:                             \
	VBROADCASTSS (BX), Z0          \
	MOVQ DX, CX                    \
	CMPQ CX, R8                    \
	CMOVQGT R8, CX                 \
	SUBQ CX, R8                    \
some:                              \
	SUBQ $16, CX                   \
	JLT  rest                      \
	VPMOVZXBW (SI), Y4             \
	PRODUCT                        \
	round                          \
	VMOVDQU64 result, (DI)         \
	ADDQ $16, SI                   \
	ADDQ $(16*size), DI            \
	JMP  some                      \
rest:                              \
	ADDQ $16, CX                   \
	JZ   next                      \
	MOVL $-1, AX                   \
	BZHIL CX, AX, AX               \
	KMOVW AX, K4                   \
	VMOVDQU8.Z (SI), K4, X4        \
	VPMOVZXBW X4, Y4               \
	PRODUCT                        \
	round                          \
	store result, K4, (DI)         \
	ADDQ CX, SI                    \
	IMULQ $size, CX                \
	ADDQ CX, DI                    \
next:                              \
	ADDQ R11, BX                   \
	MOVQ R9, DX                    \
	TESTQ R8, R8                   \
	JNZ  block                     \
	VEXTRACTI64X4 $1, Z24, Y0      \
	VPMAXUD Y0, Y24, Y0            \
	VEXTRACTI128 $1, Y0, X1        \
	VPMAXUD X1, X0, X0             \
	VPSHUFD $0x4E, X0, X1          \
	VPMAXUD X1, X0, X0             \
	VPSHUFD $0xB1, X0, X1          \
	VPMAXUD X1, X0, X0             \
	VMOVD X0, AX                   \
	KMOVW K3, CX                   \
	VZEROUPPER

// func multiplyBF16(dst, src *byte, scales *float32, stride, head, width, n int) (top uint32, nan bool)
TEXT ·multiplyBF16(SB), NOSPLIT, $0-61
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ scales+16(FP), BX
	MOVQ stride+24(FP), R11
	MOVQ head+32(FP), DX
	MOVQ width+40(FP), R9
	MOVQ n+48(FP), R8
	MULTIPLY(0x7FFF, BRAIN, 2, Y5, VMOVDQU16)
	MOVL AX, top+56(FP)
	TESTL CX, CX
	SETNE nan+60(FP)
	RET

// func multiplyF16(dst, src *byte, scales *float32, stride, head, width, n int) (top uint32, nan bool)
TEXT ·multiplyF16(SB), NOSPLIT, $0-61
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ scales+16(FP), BX
	MOVQ stride+24(FP), R11
	MOVQ head+32(FP), DX
	MOVQ width+40(FP), R9
	MOVQ n+48(FP), R8
	MULTIPLY(0x7FFF, HALF, 2, Y5, VMOVDQU16)
	MOVL AX, top+56(FP)
	TESTL CX, CX
	SETNE nan+60(FP)
	RET

// func multiplyF32(dst, src *byte, scales *float32, stride, head, width, n int) (top uint32, nan bool)
TEXT ·multiplyF32(SB), NOSPLIT, $0-61
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ scales+16(FP), BX
	MOVQ stride+24(FP), R11
	MOVQ head+32(FP), DX
	MOVQ width+40(FP), R9
	MOVQ n+48(FP), R8
	MULTIPLY(0x7FFFFFFF, WHOLE, 4, Z5, VMOVDQU32)
	MOVL AX, top+56(FP)
	TESTL CX, CX
	SETNE nan+60(FP)
	RET

#define LOADBF16 \
	VPMOVZXWD (SI), Z5  \
	VPSLLD    $16, Z5, Z5

#define LOADF16 \
	VCVTPH2PS (SI), Z5

#define LOADF32 \
	VMOVUPS (SI), Z5

// CAST is a loop over CX elements, from SI to DI: NaN becomes canonical, and K3 gets what is finite but for its result. Z22 is the mask of float32's
// magnitude, Z21 its infinity, Z20 that of the result.
#define CAST(load, size, round, inf) \
	MOVL $0x7FC00000, AX           \
	VPBROADCASTD AX, Z27           \
	MOVL $0x7FFF, AX               \
	VPBROADCASTD AX, Z26           \
	VPBROADCASTD AX, Z23           \
	MOVL $1, AX                    \
	VPBROADCASTD AX, Z25           \
	MOVL $0x7FFFFFFF, AX           \
	VPBROADCASTD AX, Z22           \
	MOVL $0x7F800000, AX           \
	VPBROADCASTD AX, Z21           \
	MOVL $inf, AX                  \
	VPBROADCASTD AX, Z20           \
	KXORW K3, K3, K3               \
some:                              \
	load                           \
	VCMPPS    $3, Z5, Z5, K2       \
	VMOVDQA32 Z27, K2, Z5          \
	VPANDD    Z22, Z5, Z7          \
	VPCMPUD   $1, Z21, Z7, K1      \
	round                          \
	VPCMPUD   $5, Z20, Z6, K1, K2  \
	KORW      K2, K3, K3           \
	VMOVDQU   Y5, (DI)             \
	ADDQ      $size, SI            \
	ADDQ      $32, DI              \
	SUBQ      $16, CX              \
	JNZ       some                 \
	KORTESTW  K3, K3               \
	VZEROUPPER

// func castBF16ToBF16(dst, src *byte, n int) (overflow bool)
TEXT ·castBF16ToBF16(SB), NOSPLIT, $0-25
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CAST(LOADBF16, 32, BRAIN, 0x7F80)
	SETNE overflow+24(FP)
	RET

// func castF16ToBF16(dst, src *byte, n int) (overflow bool)
TEXT ·castF16ToBF16(SB), NOSPLIT, $0-25
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CAST(LOADF16, 32, BRAIN, 0x7F80)
	SETNE overflow+24(FP)
	RET

// func castF32ToBF16(dst, src *byte, n int) (overflow bool)
TEXT ·castF32ToBF16(SB), NOSPLIT, $0-25
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CAST(LOADF32, 64, BRAIN, 0x7F80)
	SETNE overflow+24(FP)
	RET

// func castBF16ToF16(dst, src *byte, n int) (overflow bool)
TEXT ·castBF16ToF16(SB), NOSPLIT, $0-25
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CAST(LOADBF16, 32, HALF, 0x7C00)
	SETNE overflow+24(FP)
	RET

// func castF16ToF16(dst, src *byte, n int) (overflow bool)
TEXT ·castF16ToF16(SB), NOSPLIT, $0-25
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CAST(LOADF16, 32, HALF, 0x7C00)
	SETNE overflow+24(FP)
	RET

// func castF32ToF16(dst, src *byte, n int) (overflow bool)
TEXT ·castF32ToF16(SB), NOSPLIT, $0-25
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CAST(LOADF32, 64, HALF, 0x7C00)
	SETNE overflow+24(FP)
	RET
