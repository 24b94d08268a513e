/* Attention of a source's rows to keys and values that are laid out for it. */

#include "matrices.h"

#define QUERIES 32 /* at a time, whose scores stay in the cache */

/* Keys stand turned, WIDTH of them at a time: [room / WIDTH, inner, WIDTH], where inner is heads *
   d_head; values as they come: [room, inner]. So what there is room for, but is not there, is never
   touched. A row has numbers of d_head for every head; the next begins `columns` behind it. */
typedef struct {
    float *keys, *values;
    const float *descent; /* [rows, room] to add to scores: 0, or -inf; null: all are attended to */
    int64_t room, number, heads, d_head, columns;
} attended;

/* Puts the keys, and behind them values, of new rows into their slots. */
static void keep(const attended *to, const float *new, const int64_t *slots, int64_t rows) {
    const int64_t inner = to->heads * to->d_head;
    for (int64_t i = 0; i < rows; i++, new += to->columns) {
        const int64_t slot = slots[i];
        float *key = to->keys + slot / WIDTH * WIDTH * inner + slot % WIDTH;
        for (int64_t j = 0; j < inner; j++) key[j * WIDTH] = new[j];
        memcpy(to->values + slot * inner, new + inner, inner * sizeof *new);
    }
}

/* Finds a slot for each of a source's hypotheses, the first ones that none of them descends from,
   and has it descend from its own; one more than the last slot that any descends from. */
static int64_t find_slots(float *descent, int64_t room, int64_t rows, int64_t *slots) {
    int64_t found = 0, end = 0;
    for (int64_t slot = 0; slot < room; slot++) {
        int used = 0;
        for (int64_t i = 0; i < rows && !used; i++) used = descent[i * room + slot] == 0;
        if (!used && found < rows) {
            descent[found * room + slot] = 0;
            slots[found++] = slot;
            used = 1;
        }
        if (used) end = slot + 1;
    }
    return end;
}

/* Of scores[queries, width] to weights; those of no key are zero. */
static void softmax(
    float *scores, int64_t queries, int64_t keys, const float *descent, int64_t room
) {
    const ints count = COUNT;
    for (int64_t i = 0; i < queries; i++, scores += ROUNDED(keys)) {
        vec top = all(-INFINITY), sum = all(0);
        for (int64_t j = 0; j < keys; j += WIDTH) {
            vec score = load(scores + j);
            if (descent) score += load(descent + i * room + j);
            score = choose(count < (int32_t)(keys - j), score, all(-INFINITY));
            store(scores + j, score);
            top = larger(score, top);
        }
        const float highest = largest_of(top);
        for (int64_t j = 0; j < keys; j += WIDTH) {
            vec part = exp_of(load(scores + j) - highest);
            store(scores + j, part);
            sum += part;
        }
        const float factor = 1 / sum_of(sum);
        for (int64_t j = 0; j < keys; j += WIDTH) store(scores + j, load(scores + j) * factor);
    }
}

/* What the queries of some rows find; they come scaled. */
static void attend_to(
    const attended *to, float *query, float *found, int64_t rows, float *scores
) {
    const int64_t d_head = to->d_head, inner = to->heads * d_head, width = ROUNDED(to->number);
    for (int64_t i = 0; i < rows; i += QUERIES) {
        const int64_t some = least(QUERIES, rows - i);
        const float *descent = to->descent ? to->descent + i * to->room : 0;
        for (int64_t j = 0; j < inner; j += d_head) {
            const matrix queries = {query + i * to->columns + j, to->columns, 1};
            for (int64_t k = 0; k < width; k += WIDTH) {
                const float *keys = to->keys + k * inner + j * WIDTH;
                product(scores + k, width, queries, keys, WIDTH, some, d_head, WIDTH, 0);
            }
            softmax(scores, some, to->number, descent, to->room);
            const matrix weights = {scores, width, 1};
            float *place = found + i * to->columns + j;
            product(
                place, to->columns, weights, to->values + j, inner, some, to->number, d_head, 0
            );
        }
    }
}
