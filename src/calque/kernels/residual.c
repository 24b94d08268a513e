/* Around a sub-layer: dropout, the residual connection and layer norm, in one pass over rows. */

#include "matrices.h"
#include "random.h"

#define SIDE_BY_SIDE 8 /* rows, none of which waits for what another comes to */
#define BLOCK 256 /* rows, each of which has sums of its own: none depends on who does the work */

typedef struct {
    const void *x, *made;        /* [rows, width]: around the sub-layer, and what it made */
    const float *weight, *bias;  /* [width]; null: no norm */
    void *sum, *out;             /* x + dropout(made), and norm(sum) */
    float *moments;              /* [rows, 2]: mean and 1 / deviation of each sum */
    const void *grad;            /* of out, or without a norm of sum */
    void *of_x, *of_made;        /* gradients; of_x with a norm alone: without, it is grad */
    float *of_weight, *of_bias;  /* [blocks, width], to add to */
    int64_t rows, width, low;    /* width: a multiple of WIDTH; low: rows are bf16, else float32 */
    dropout dropout;
    float epsilon;
} around;

INLINE int64_t end_of(const around a, int64_t block) {
    return (block + 1) * BLOCK < a.rows ? (block + 1) * BLOCK : a.rows;
}

void add_and_norm(const around *given, int64_t first, int64_t end) {
    const around a = *given; /* that no store to memory can change */
    const int64_t width = a.width, last = end_of(a, end - 1);
    float *lines = memory(SIDE_BY_SIDE * width), means[SIDE_BY_SIDE], inverses[SIDE_BY_SIDE];
    drawn drawn = NOTHING_DRAWN;
    for (int64_t row = first * BLOCK; row < last; row += SIDE_BY_SIDE) {
        const int64_t rows = least(SIDE_BY_SIDE, last - row);
        for (int64_t i = 0; i < rows; i++) {
            vec total = all(0);
            for (int64_t j = 0; j < width; j += WIDTH) {
                const int64_t at = (row + i) * width + j;
                vec y = load_any(a.x, at, a.low);
                y += kept(&a.dropout, &drawn, at, load_any(a.made, at, a.low));
                store_any(a.sum, at, y, a.low);
                store(lines + i * width + j, y);
                total += y;
            }
            means[i] = sum_of(total) / width;
        }
        if (!a.weight) continue;
        for (int64_t i = 0; i < rows; i++) {
            vec squares = all(0);
            for (int64_t j = 0; j < width; j += WIDTH) {
                vec y = load(lines + i * width + j) - means[i];
                squares += y * y;
            }
            inverses[i] = 1 / sqrtf(sum_of(squares) / width + a.epsilon);
        }
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < width; j += WIDTH) {
                vec y = (load(lines + i * width + j) - means[i]) * inverses[i];
                y = y * load(a.weight + j) + load(a.bias + j);
                store_any(a.out, (row + i) * width + j, y, a.low);
            }
            a.moments[2 * (row + i)] = means[i];
            a.moments[2 * (row + i) + 1] = inverses[i];
        }
    }
    free(lines);
}

void add_and_norm_gradient(const around *given, int64_t first, int64_t end) {
    const around a = *given; /* that no store to memory can change */
    const int64_t width = a.width;
    drawn drawn = NOTHING_DRAWN;
    for (int64_t row = first * BLOCK; row < end_of(a, end - 1); row++) {
        const int64_t at = row * width;
        float mean = 0, inverse = 1;
        vec of_mean = all(0), of_scale = all(0);
        if (a.weight) {
            float *of_weight = a.of_weight + row / BLOCK * width;
            float *of_bias = a.of_bias + row / BLOCK * width;
            mean = a.moments[2 * row];
            inverse = a.moments[2 * row + 1];
            for (int64_t j = 0; j < width; j += WIDTH) {
                vec of_out = load_any(a.grad, at + j, a.low);
                vec normal = (load_any(a.sum, at + j, a.low) - mean) * inverse;
                store(of_weight + j, load(of_weight + j) + of_out * normal);
                store(of_bias + j, load(of_bias + j) + of_out);
                of_out *= load(a.weight + j);
                of_mean += of_out;
                of_scale += of_out * normal;
            }
        }
        const float shift = sum_of(of_mean) / width, stretch = sum_of(of_scale) / width;
        for (int64_t j = 0; j < width; j += WIDTH) {
            vec of_sum = load_any(a.grad, at + j, a.low);
            if (a.weight) {
                vec normal = (load_any(a.sum, at + j, a.low) - mean) * inverse;
                of_sum = inverse * (of_sum * load(a.weight + j) - shift - normal * stretch);
                store_any(a.of_x, at + j, of_sum, a.low);
            }
            store_any(a.of_made, at + j, kept(&a.dropout, &drawn, at + j, of_sum), a.low);
        }
    }
}
