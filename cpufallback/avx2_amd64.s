//go:build !purego

#include "textflag.h"

// SIXTEEN: 16 codes at SI become bfloat16 in Y1. A code's bits are a float16 of 2^-8 its value; Y15 is the scale times 2^8. Y9 keeps the greatest code shifted
// left by one, Y10 is 1, Y11 0x7FFF, Y13 0xBFFF in words.
#define SIXTEEN \
	VMOVDQU      (SI), X1      \
	VPADDB       X1, X1, X2    \
	VPMAXUB      X2, X9, X9    \
	VPMOVZXBW    X1, Y0        \
	VPSLLW       $8, Y0, Y0    \
	VPSRAW       $1, Y0, Y0    \
	VPAND        Y13, Y0, Y0   \
	VEXTRACTI128 $1, Y0, X2    \
	VCVTPH2PS    X0, Y1        \
	VCVTPH2PS    X2, Y2        \
	VMULPS       Y15, Y1, Y1   \
	VMULPS       Y15, Y2, Y2   \
	VPSRLD       $16, Y1, Y3   \
	VPSRLD       $16, Y2, Y4   \
	VPAND        Y10, Y3, Y3   \
	VPAND        Y10, Y4, Y4   \
	VPADDD       Y11, Y1, Y1   \
	VPADDD       Y11, Y2, Y2   \
	VPADDD       Y3, Y1, Y1    \
	VPADDD       Y4, Y2, Y2    \
	VPSRLD       $16, Y1, Y1   \
	VPSRLD       $16, Y2, Y2   \
	VPACKUSDW    Y2, Y1, Y1    \
	VPERMQ       $0xD8, Y1, Y1

// func multiplyAVX2(dst, src *byte, scale float32, n int, stream bool) (nan bool)
// n is a multiple of 16. Where there is a NaN code its result is wrong.
TEXT ·multiplyAVX2(SB), NOSPLIT, $0-41
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	VBROADCASTSS scale+16(FP), Y15
	MOVQ n+24(FP), CX
	MOVBLZX stream+32(FP), DX
	MOVL $0x43800000, AX
	VMOVD AX, X0
	VBROADCASTSS X0, Y0
	VMULPS Y0, Y15, Y15
	MOVL $0xBFFF, AX
	VMOVD AX, X13
	VPBROADCASTW X13, Y13
	MOVL $0x7FFF, AX
	VMOVD AX, X11
	VPBROADCASTD X11, Y11
	MOVL $1, AX
	VMOVD AX, X10
	VPBROADCASTD X10, Y10
	VPXOR X9, X9, X9
	DECQ DX // 0 to stream
	MOVQ DI, AX
	ANDQ $31, AX
	ORQ AX, DX
	JZ streams

plain:
	SIXTEEN
	VMOVDQU Y1, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	SUBQ $16, CX
	JNZ plain
	JMP done

streams:
	SIXTEEN
	VMOVNTDQ Y1, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	SUBQ $16, CX
	JNZ streams

done:
	MOVL $0xFEFEFEFE, AX
	VMOVD AX, X0
	VPBROADCASTD X0, X0
	VPCMPEQB X0, X9, X0
	VPMOVMSKB X0, AX
	TESTL AX, AX
	SETNE nan+40(FP)
	VZEROUPPER
	RET
