// The vendor intrinsics, and only those that one ISA needs.
//
// <immintrin.h> alone costs 0.7 s of compile time, a third of the budget for a whole kernel. Its parts may be
// included one by one once the macro that they check is set. Tests replace this file's content by an emulation:
// they define ATTNGEN_EMULATE_AVX512 as the header (in quotes) that declares the same names.
#pragma once

#if defined(ATTNGEN_EMULATE_AVX512)
#include ATTNGEN_EMULATE_AVX512
#elif defined(__AVX2__)
#if defined(__clang__)
#define __IMMINTRIN_H
#define __MM_MALLOC_H  // would include the whole of stdlib.h
#else
#define _IMMINTRIN_H_INCLUDED
#define _MM_MALLOC_H_INCLUDED
#endif
#include <nmmintrin.h>

#include <avxintrin.h>

#include <avx2intrin.h>
#include <f16cintrin.h>
#include <fmaintrin.h>
#if defined(__AVX512F__)
#include <avx512fintrin.h>

#include <avx512vlintrin.h>

#include <avx512bwintrin.h>
#include <avx512dqintrin.h>
#if defined(__AVX512BF16__) && defined(__clang__)
#include <avx512bf16intrin.h>
#include <avx512vlbf16intrin.h>
#elif defined(__AVX512BF16__)
#include <avx512bf16vlintrin.h>

#include <avx512bf16intrin.h>
#endif
#endif
#endif
