/* Small matrices of float32 numbers that stay in the cache, with rows of whole vectors. */

#pragma once

#include <stdlib.h>

#include "vectors.h"

INLINE int64_t least(int64_t i, int64_t j) { return i < j ? i : j; }
INLINE int64_t most(int64_t i, int64_t j) { return i > j ? i : j; }

/* As PyTorch orders them: what is no number comes last, so that it is not hidden. */
INLINE int less(float a, float b) { return a < b || (a == a && b != b); }

INLINE float *memory(int64_t numbers) { return aligned_alloc(64, (4 * numbers + 63) / 64 * 64); }

/* to[rows, ROUNDED(size)] = factor * from[rows of `stride`, size], with zeros behind. */
INLINE void load_rows(
    float *to, const void *from, int64_t at, int64_t stride, int64_t rows, int64_t size,
    float factor, int low
) {
    for (int64_t i = 0; i < rows; i++, at += stride, to += ROUNDED(size)) {
        int64_t j = 0;
        for (; j + WIDTH <= size; j += WIDTH) store(to + j, factor * load_any(from, at + j, low));
        for (; j < size; j++) to[j] = factor * load_one(from, at + j, low);
        for (; j < ROUNDED(size); j++) to[j] = 0;
    }
}

/* And back. */
INLINE void store_rows(
    void *to, int64_t at, const float *from, int64_t stride, int64_t rows, int64_t size,
    float factor, int low
) {
    for (int64_t i = 0; i < rows; i++, at += stride, from += ROUNDED(size)) {
        int64_t j = 0;
        for (; j + WIDTH <= size; j += WIDTH) store_any(to, at + j, factor * load(from + j), low);
        for (; j < size; j++) store_one(to, at + j, factor * from[j], low);
    }
}

/* to[columns, ROUNDED(rows)] = from[rows, columns] turned, with zeros behind; both are rounded.
   Again and again, rows of the upper half of a square fall between those of the lower half. */
static inline void turn(float *to, const float *from, int64_t rows, int64_t columns) {
    const int64_t high = ROUNDED(rows);
    for (int64_t i = 0; i < high; i += WIDTH)
        for (int64_t j = 0; j < columns; j += WIDTH) {
            vec square[WIDTH], mixed[WIDTH];
#pragma GCC unroll 16
            for (int k = 0; k < WIDTH; k++)
                square[k] = i + k < rows ? load(from + (i + k) * columns + j) : all(0);
#pragma GCC unroll 4
            for (int time = 1; time < WIDTH; time *= 2) {
#pragma GCC unroll 8
                for (int k = 0; k < WIDTH / 2; k++) {
                    mixed[2 * k] = MIXED(square[k], square[k + WIDTH / 2], LOWER);
                    mixed[2 * k + 1] = MIXED(square[k], square[k + WIDTH / 2], UPPER);
                }
#pragma GCC unroll 16
                for (int k = 0; k < WIDTH; k++) square[k] = mixed[k];
            }
#pragma GCC unroll 16
            for (int k = 0; k < WIDTH; k++) store(to + (j + k) * high + i, square[k]);
        }
}

/* Rows of a tile: its sums are to stay in registers. */
#if WIDTH == 16
#define TALL 8
#else
#define TALL 4
#endif

/* A matrix in memory: number (i, j) stands at i * row + j * column. */
typedef struct {
    float *at;
    int64_t row, column;
} matrix;

INLINE void tile(
    float *c, int64_t c_row, matrix a, const float *b, int64_t b_row, int64_t inner, int add,
    const int height, const int vectors
) {
    vec sum[TALL][2];
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sum[i][j] = add ? load(c + i * c_row + j * WIDTH) : all(0);
    for (int64_t k = 0; k < inner; k++) {
        vec of_b[2];
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) of_b[j] = load(b + k * b_row + j * WIDTH);
#pragma GCC unroll 8
        for (int i = 0; i < height; i++)
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++)
                sum[i][j] += a.at[i * a.row + k * a.column] * of_b[j];
    }
#pragma GCC unroll 8
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) store(c + i * c_row + j * WIDTH, sum[i][j]);
}

/* c[rows, width] = a[rows, inner] b[inner, width], or that much more; width is rounded. */
static inline void product(
    float *c, int64_t c_row, matrix a, const float *b, int64_t b_row, int64_t rows, int64_t inner,
    int64_t width, int add
) {
    for (int64_t i = 0, height; i < rows; i += height) {
        const int64_t tiles = (rows - i + TALL - 1) / TALL;
        height = (rows - i + tiles - 1) / tiles; /* all about as high: a low one is slow */
        const matrix part = {a.at + i * a.row, a.row, a.column};
        for (int64_t j = 0; j < width;) {
            float *to = c + i * c_row + j;
            const int vectors = width - j >= 2 * WIDTH ? 2 : 1;
#define TILE(h) \
    case h: \
        if (vectors == 2) tile(to, c_row, part, b + j, b_row, inner, add, h, 2); \
        else tile(to, c_row, part, b + j, b_row, inner, add, h, 1); \
        break;
            switch (height) {
                TILE(1) TILE(2) TILE(3) TILE(4)
#if WIDTH == 16
                TILE(5) TILE(6) TILE(7) TILE(8)
#endif
            }
#undef TILE
            j += vectors * WIDTH;
        }
    }
}
