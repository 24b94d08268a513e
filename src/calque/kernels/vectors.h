/* As many numbers at a time as a vector register holds, from and to float32 or bf16. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined __AVX512F__
#include <immintrin.h>
#define WIDTH 16
#define COUNT {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#define LOWER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define UPPER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define NEIGHBOURS 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#elif defined __AVX2__
#define WIDTH 8
#define COUNT {0, 1, 2, 3, 4, 5, 6, 7}
#define LOWER 0, 8, 1, 9, 2, 10, 3, 11
#define UPPER 4, 12, 5, 13, 6, 14, 7, 15
#define NEIGHBOURS 1, 0, 3, 2, 5, 4, 7, 6
#else
#define WIDTH 4
#define COUNT {0, 1, 2, 3}
#define LOWER 0, 4, 1, 5
#define UPPER 2, 6, 3, 7
#define NEIGHBOURS 1, 0, 3, 2
#endif

/* Takes numbers of two vectors, by turns: LOWER halves or UPPER halves; or NEIGHBOURS of one. */
#ifdef __clang__
#define MIXED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MIXED(a, b, ...) __builtin_shuffle(a, b, (ints){__VA_ARGS__})
#endif

#define ROUNDED(n) (((n) + WIDTH - 1) / WIDTH * WIDTH)
#define INLINE static inline __attribute__((always_inline))
#define VECTOR(size) __attribute__((vector_size(size * WIDTH), aligned(size), may_alias))

typedef float vec VECTOR(4);
typedef int32_t ints VECTOR(4);
typedef uint32_t bits VECTOR(4);
typedef uint16_t halves VECTOR(2);

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec x) { *(vec *)to = x; }
INLINE vec all(float x) { return x - (vec){}; }
INLINE vec choose(ints mask, vec yes, vec no) {
    return (vec)((mask & (ints)yes) | (~mask & (ints)no));
}
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }

INLINE float sum_of(vec x) {
    float sums[WIDTH / 2];
    for (int i = 0; i < WIDTH / 2; i++) sums[i] = x[i] + x[i + WIDTH / 2];
    for (int half = WIDTH / 4; half; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
}

INLINE float largest_of(vec x) {
    float most[WIDTH / 2];
    for (int i = 0; i < WIDTH / 2; i++) most[i] = x[i] > x[i + WIDTH / 2] ? x[i] : x[i + WIDTH / 2];
    for (int half = WIDTH / 4; half; half /= 2)
        for (int i = 0; i < half; i++)
            if (most[i + half] > most[i]) most[i] = most[i + half];
    return most[0];
}

INLINE vec nearest_integer(vec x) {
#ifdef __AVX512F__
    return (vec)_mm512_roundscale_ps((__m512)x, 0);
#else
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
    return (x + magic) - magic;
#endif
}

/* y * 2^power where x is no less than least, elsewhere 0. */
INLINE vec raised(vec y, vec power, vec x, float least) {
#ifdef __AVX512F__
    const __mmask16 seen = _mm512_cmp_ps_mask((__m512)x, (__m512)all(least), _CMP_NLT_UQ);
    return (vec)_mm512_maskz_scalef_ps(seen, (__m512)y, (__m512)power);
#else
    const ints exponent = __builtin_convertvector(power, ints) << 23;
    return choose(x < least, all(0), (vec)((ints)y + exponent));
#endif
}

/* e^x to within 2 units in the last place; 0 where that is below the smallest normal number, and
   e^88.7 where x is greater, which is almost the largest one. What is no number stays none. */
INLINE vec exp_of(vec x) {
    const float least = -87.3f, most = 88.7f;
    vec kept = choose(x > most, all(most), x);
    vec power = nearest_integer(kept * 1.44269504f);
    vec rest = kept - power * 0.693359375f + power * 2.12194440e-4f;
    vec y = all(1.9875691500e-4f);
    y = y * rest + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * rest * rest + rest + 1.0f;
    return raised(y, power, x, least);
}

INLINE bits widened(halves x) {
#ifdef __AVX512F__
    return (bits)_mm512_cvtepu16_epi32((__m256i)x);
#else
    return __builtin_convertvector(x, bits);
#endif
}

INLINE vec from_bf16(const uint16_t *from) { return (vec)(widened(*(const halves *)from) << 16); }

INLINE halves bf16_of(vec x) { /* to the nearest, of two the even one */
#ifdef __AVX512BF16__
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    const bits raw = (bits)x;
    return __builtin_convertvector((raw + 0x7fff + ((raw >> 16) & 1)) >> 16, halves);
#endif
}

INLINE void to_bf16(uint16_t *to, vec x) { *(halves *)to = bf16_of(x); }

INLINE vec load_any(const void *from, int64_t at, int low) {
    return low ? from_bf16((const uint16_t *)from + at) : load((const float *)from + at);
}

INLINE void store_any(void *to, int64_t at, vec x, int low) {
    if (low) to_bf16((uint16_t *)to + at, x);
    else store((float *)to + at, x);
}

INLINE float load_one(const void *from, int64_t at, int low) {
    if (!low) return ((const float *)from)[at];
    uint32_t raw = (uint32_t)((const uint16_t *)from)[at] << 16;
    float x;
    memcpy(&x, &raw, sizeof x);
    return x;
}

INLINE void store_one(void *to, int64_t at, float x, int low) {
    if (!low) {
        ((float *)to)[at] = x;
        return;
    }
    uint32_t raw;
    memcpy(&raw, &x, sizeof raw);
    ((uint16_t *)to)[at] = (raw + 0x7fff + ((raw >> 16) & 1)) >> 16;
}
