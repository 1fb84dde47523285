#include "textflag.h"

// func compat(number, a, b, c uintptr) (result uintptr)
//
// The kernel clears R8 to R11 on its way back from a 32-bit call.
TEXT ·compat(SB),NOSPLIT,$0-40
	MOVQ number+0(FP), AX
	MOVQ a+8(FP), BX
	MOVQ b+16(FP), CX
	MOVQ c+24(FP), DX
	XORL SI, SI
	XORL DI, DI
	INT  $0x80
	MOVQ AX, result+32(FP)
	RET
