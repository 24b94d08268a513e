/* Products of bf16 matrices, whose numbers are multiplied two at a time.

   A word holds two numbers that follow each other in the sum over which a product runs. */

#pragma once

#include "matrices.h"

/* sum + the lower numbers of a times those of b + the upper ones of a times those of b. */
INLINE vec dot(vec sum, bits a, bits b) {
#ifdef __AVX512BF16__
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    const uint32_t upper = 0xffff0000;
    return sum + (vec)(a << 16) * (vec)(b << 16) + (vec)(a & upper) * (vec)(b & upper);
#endif
}

/* Of each number of `lower` and the one of `upper` at its place. */
INLINE bits paired(halves lower, halves upper) {
    return widened(lower) | widened(upper) << 16;
}

INLINE halves load_halves(const uint16_t *from) { return *(const halves *)from; }

/* A matrix in memory: pair (i, j) stands at i * row + j * column. */
typedef struct {
    const uint32_t *at;
    int64_t row, column;
} matrix_of_pairs;

#define PANEL (2 * WIDTH) /* columns of a matrix, which stand in memory by themselves */
#define DEEP 128          /* pairs of a panel that stay in the nearest cache */

INLINE void tile_of_pairs(
    float *c, int64_t c_row, matrix_of_pairs a, const uint32_t *panel, int64_t inner, int add,
    const int height
) {
    vec sum[TALL][2] = {};
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
        for (int j = 0; j < 2; j++) __builtin_prefetch(c + i * c_row + j * WIDTH, 1);
    for (int64_t k = 0; k < inner; k++) {
        const bits *of_b = (const bits *)(panel + k * PANEL);
        const bits left = of_b[0], right = of_b[1];
#pragma GCC unroll 8
        for (int i = 0; i < height; i++) {
            const bits of_a = a.at[i * a.row + k * a.column] - (bits){};
            sum[i][0] = dot(sum[i][0], of_a, left);
            sum[i][1] = dot(sum[i][1], of_a, right);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
        for (int j = 0; j < 2; j++) {
            float *to = c + i * c_row + j * WIDTH;
            if (add) sum[i][j] += load(to);
            store(to, sum[i][j]);
        }
}

/* c[rows, width] = a[rows, inner] panels[width / PANEL, inner, PANEL], or that much more; inner is
   a number of pairs. */
static inline void product_of_pairs(
    float *c, int64_t c_row, matrix_of_pairs a, const uint32_t *panels, int64_t rows,
    int64_t inner, int64_t width, int add
) {
    for (int64_t j = 0; j < width; j += PANEL, panels += inner * PANEL)
        for (int64_t k = 0; k < inner; k += DEEP)
            for (int64_t i = 0, height; i < rows; i += height) {
                const matrix_of_pairs part = {a.at + i * a.row + k * a.column, a.row, a.column};
                const uint32_t *panel = panels + k * PANEL;
                const int64_t deep = least(DEEP, inner - k);
                float *to = c + i * c_row + j;
                height = rows - i >= TALL ? TALL : 1;
                if (height == TALL) tile_of_pairs(to, c_row, part, panel, deep, add || k, TALL);
                else tile_of_pairs(to, c_row, part, panel, deep, add || k, 1);
            }
}
