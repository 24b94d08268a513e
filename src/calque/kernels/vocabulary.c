/* Softmax over a vocabulary that rows are projected to, and the gradient of its normalisers.

   Numbers are bf16, sums float32. TOKENS rows meet one part of the vocabulary after the other, and
   forget their logits: what stays is e^(logit - reference), which the gradient of the weight needs
   once all is known. A row's reference is one of its logits; its sum shows whether that was far
   below the largest. */

#include "pairs.h"

#define TOKENS 64
#define PART 256 /* of the vocabulary */
#define SIDE 16  /* columns that stand in memory by themselves */

typedef struct {
    const uint16_t *features; /* [rows, width] */
    const uint16_t *weight;   /* [vocab, width] */
    uint32_t *pairs;          /* [width / SIDE, vocab / 2, SIDE]: two rows of weight by turns */
    const float *bias;        /* [vocab]; null: none */
    const float *references;  /* [rows] */
    float *sums;              /* [rows] of e^(logit - reference) over the vocabulary */
    float *of_features;       /* [rows, width]: the gradient of the logarithms of the sums */
    uint16_t *parts;          /* [vocab, rows]: e^(logit - reference) */
    uint32_t *scaled;         /* [width / PANEL, rows / 2, PANEL]: features / sums, likewise */
    float *of_weight;         /* [vocab, width], to add to */
    float *of_bias;           /* [vocab], to add to */
    int64_t rows, vocab, width; /* multiples of TOKENS, any, and of 2 * WIDTH */
} vocabulary;

/* To `pairs`. */
void pair_vocabulary(const vocabulary *v, int64_t first, int64_t end) {
    const int64_t pairs = (v->vocab + 1) / 2;
    for (int64_t j = first * SIDE; j < end * SIDE; j += WIDTH)
        for (int64_t i = 0; i < pairs; i++) {
            const uint16_t *from = v->weight + 2 * i * v->width + j;
            const int alone = 2 * i + 1 == v->vocab;
            const halves upper = alone ? (halves){} : load_halves(from + v->width);
            uint32_t *to = v->pairs + (j / SIDE * pairs + i) * SIDE + j % SIDE;
            *(bits *)to = paired(load_halves(from), upper);
        }
}

/* Of one part's logits [words, TOKENS]: to sums, to `parts`, and to panels of their pairs. */
static void exponentials(
    const vocabulary *v, uint32_t *panels, const float *logits, int64_t row, int64_t from,
    int64_t words
) {
    const int64_t pairs = (words + 1) / 2;
    vec sum[TOKENS / WIDTH], reference[TOKENS / WIDTH];
    memcpy(sum, v->sums + row, sizeof sum);
    memcpy(reference, v->references + row, sizeof reference);
    for (int64_t j = 0; j < words; j += 2)
#pragma GCC unroll 4
        for (int i = 0; i < TOKENS / WIDTH; i++) {
            halves pair[2] = {};
            for (int k = 0; k < 2 && j + k < words; k++) {
                const float bias = v->bias ? v->bias[from + j + k] : 0;
                const vec logit = load(logits + (j + k) * TOKENS + i * WIDTH) + bias;
                const vec part = exp_of(logit - reference[i]);
                sum[i] += part;
                pair[k] = bf16_of(part);
                *(halves *)(v->parts + (from + j + k) * v->rows + row + i * WIDTH) = pair[k];
            }
            uint32_t *to = panels + (i / 2 * pairs + j / 2) * PANEL + i % 2 * WIDTH;
            *(bits *)to = paired(pair[0], pair[1]);
        }
    memcpy(v->sums + row, sum, sizeof sum);
}

/* What is kept of rows once their sums are known: their gradient, and `scaled`. */
static void normalise(const vocabulary *v, const float *of_rows, int64_t row) {
    for (int64_t i = row; i < row + TOKENS; i += 2)
        for (int64_t j = 0; j < v->width; j += WIDTH) {
            halves pair[2];
            for (int k = 0; k < 2; k++) {
                const int64_t at = (i + k) * v->width + j;
                const float factor = 1 / v->sums[i + k];
                store(v->of_features + at, factor * load(of_rows + at - row * v->width));
                pair[k] = bf16_of(factor * from_bf16(v->features + at));
            }
            uint32_t *to = v->scaled + (j / PANEL * v->rows + i) / 2 * PANEL + j % PANEL;
            *(bits *)to = paired(pair[0], pair[1]);
        }
}

void sum_over_vocabulary(const vocabulary *v, int64_t first, int64_t end) {
    const int64_t width = v->width, all_pairs = (v->vocab + 1) / 2;
    float *rows = memory((2 * TOKENS + TOKENS / 2) * width + (PART + PART / 2) * TOKENS);
    float *of_rows = rows + TOKENS * width / 2, *of_turned = of_rows + TOKENS * width;
    float *logits = of_turned + TOKENS * width, *parts = logits + PART * TOKENS;
    for (int64_t row = first * TOKENS; row < end * TOKENS; row += TOKENS) {
        for (int64_t i = 0; i < TOKENS; i += PANEL) {
            const uint16_t *from = v->features + (row + i) * width;
            turn(rows + i * width / 2, (const float *)from, PANEL, width / 2);
        }
        memset(v->sums + row, 0, TOKENS * sizeof(float));
        memset(of_turned, 0, TOKENS * width * sizeof(float));
        for (int64_t from = 0; from < v->vocab; from += PART) {
            const int64_t words = least(PART, v->vocab - from), pairs = (words + 1) / 2;
            const uint32_t *weight = (const uint32_t *)(v->weight + from * width);
            product_of_pairs(
                logits, TOKENS, (matrix_of_pairs){weight, width / 2, 1}, (uint32_t *)rows, words,
                width / 2, TOKENS, 0
            );
            exponentials(v, (uint32_t *)parts, logits, row, from, words);
            for (int64_t j = 0; j < width; j += SIDE) {
                const uint32_t *side = v->pairs + j * all_pairs + from / 2 * SIDE;
                product_of_pairs(
                    of_turned + j * TOKENS, TOKENS, (matrix_of_pairs){side, 1, SIDE},
                    (uint32_t *)parts, SIDE, pairs, TOKENS, 1
                );
            }
        }
        turn(of_rows, of_turned, width, TOKENS);
        normalise(v, of_rows, row);
    }
    free(rows);
}

void vocabulary_gradient(const vocabulary *v, int64_t first, int64_t end) {
    for (int64_t from = first * PART; from < least(end * PART, v->vocab); from += PART) {
        const int64_t words = least(PART, v->vocab - from);
        const uint32_t *parts = (const uint32_t *)(v->parts + from * v->rows);
        product_of_pairs(
            v->of_weight + from * v->width, v->width, (matrix_of_pairs){parts, v->rows / 2, 1},
            v->scaled, words, v->rows / 2, v->width, 1
        );
        for (int64_t j = from; v->bias && j < from + words; j++) {
            vec sum = all(0);
            for (int64_t i = 0; i < v->rows; i += WIDTH)
                sum += from_bf16(v->parts + j * v->rows + i) / load(v->sums + i);
            v->of_bias[j] += sum_of(sum);
        }
    }
}
