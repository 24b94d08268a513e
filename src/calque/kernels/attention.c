/* Scaled dot-product attention over sentences of unlike lengths, and its gradient.

   The tokens of a sentence stand in rows that follow each other; `starts` says where each begins,
   and where the last one ends. A row holds a vector of d_head numbers for each head. Scores and
   weights stand as [key, query]: a softmax then goes down a column, a vector of queries at a time.
   None are kept for the gradient, which finds them again (arXiv:2205.14135, §3.1). */

#include "matrices.h"

#define BLOCK 32 /* queries at a time, whose weights stay in the cache */

typedef struct {
    const int64_t *query_starts, *key_starts;
    const void *query, *key, *value, *of_found;
    void *found, *of_query, *of_key, *of_value; /* of_: a gradient, laid out as what it is of */
    int64_t heads, d_head;
    int64_t query_stride, key_stride, value_stride, found_stride; /* from row to row */
    int64_t causal, low; /* low: rows are bf16, else float32 */
} attention;

/* Where one head's vectors of one sentence are, and how many. */
typedef struct {
    int64_t queries, keys, query, key, value, found;
} place;

static place of_head(const attention *a, int64_t sentence, int64_t head) {
    const int64_t query = a->query_starts[sentence], key = a->key_starts[sentence];
    const int64_t at = head * a->d_head;
    return (place){
        .queries = a->query_starts[sentence + 1] - query,
        .keys = a->key_starts[sentence + 1] - key,
        .query = query * a->query_stride + at,
        .key = key * a->key_stride + at,
        .value = key * a->value_stride + at,
        .found = query * a->found_stride + at,
    };
}

static int64_t most_keys(const attention *a, int64_t first, int64_t end) {
    int64_t most = 0;
    for (int64_t task = first; task < end; task++) {
        const int64_t *start = a->key_starts + task / a->heads;
        if (start[1] - start[0] > most) most = start[1] - start[0];
    }
    return most;
}

/* Of scores[keys, width] to weights; with `causal`, query `from` + n sees the keys up to its own. */
static void softmax(float *scores, int64_t keys, int64_t width, int64_t from, int causal) {
    const ints count = COUNT;
    for (int64_t i = 0; i < width; i += WIDTH) {
        const ints query = count + (int32_t)(from + i);
        vec most = all(-INFINITY), sum = all(0);
        for (int64_t j = 0; j < keys; j++) {
            vec score = load(scores + j * width + i);
            if (causal) score = choose(query >= (int32_t)j, score, all(-INFINITY));
            store(scores + j * width + i, score);
            most = larger(score, most);
        }
        for (int64_t j = 0; j < keys; j++) {
            vec part = exp_of(load(scores + j * width + i) - most);
            store(scores + j * width + i, part);
            sum += part;
        }
        const vec factor = 1 / sum;
        for (int64_t j = 0; j < keys; j++)
            store(scores + j * width + i, load(scores + j * width + i) * factor);
    }
}

/* The gradient of weights[keys, width] to that of scores. */
static void softmax_gradient(float *grad, const float *weights, int64_t keys, int64_t width) {
    for (int64_t i = 0; i < width; i += WIDTH) {
        vec sum = all(0);
        for (int64_t j = i; j < keys * width; j += width) sum += load(grad + j) * load(weights + j);
        for (int64_t j = i; j < keys * width; j += width)
            store(grad + j, load(weights + j) * (load(grad + j) - sum));
    }
}

void attend(const attention *a, int64_t first, int64_t end) {
    const int64_t d_head = a->d_head, size = ROUNDED(d_head), low = a->low;
    const int64_t most = most_keys(a, first, end);
    float *k = memory((3 * BLOCK + 2 * most) * size + most * BLOCK);
    float *v = k + most * size, *q = v + most * size, *q_turned = q + BLOCK * size;
    float *found = q_turned + BLOCK * size, *weights = found + BLOCK * size;
    for (int64_t task = first; task < end; task++) { /* a sentence's head */
        const place at = of_head(a, task / a->heads, task % a->heads);
        load_rows(k, a->key, at.key, a->key_stride, at.keys, d_head, 1, low);
        load_rows(v, a->value, at.value, a->value_stride, at.keys, d_head, 1, low);
        for (int64_t i = 0; i < at.queries; i += BLOCK) {
            const int64_t rows = least(BLOCK, at.queries - i), width = ROUNDED(rows);
            const int64_t seen = a->causal ? least(at.keys, i + rows) : at.keys;
            const int64_t of_q = at.query + i * a->query_stride;
            load_rows(q, a->query, of_q, a->query_stride, rows, d_head, 1 / sqrtf(d_head), low);
            turn(q_turned, q, rows, size);
            product(weights, width, (matrix){k, size, 1}, q_turned, width, seen, size, width, 0);
            softmax(weights, seen, width, i, a->causal);
            product(found, size, (matrix){weights, 1, width}, v, size, rows, seen, size, 0);
            const int64_t of_f = at.found + i * a->found_stride;
            store_rows(a->found, of_f, found, a->found_stride, rows, d_head, 1, low);
        }
    }
    free(k);
}

void attend_gradient(const attention *a, int64_t first, int64_t end) {
    const int64_t d_head = a->d_head, size = ROUNDED(d_head), low = a->low;
    const int64_t most = most_keys(a, first, end);
    const float scale = 1 / sqrtf(d_head);
    float *k = memory((5 * BLOCK + 4 * most) * size + 2 * most * BLOCK);
    float *v = k + most * size, *of_k = v + most * size, *of_v = of_k + most * size;
    float *q = of_v + most * size, *q_turned = q + BLOCK * size, *of_q = q_turned + BLOCK * size;
    float *grad = of_q + BLOCK * size, *grad_turned = grad + BLOCK * size;
    float *weights = grad_turned + BLOCK * size, *of_weights = weights + most * BLOCK;
    for (int64_t task = first; task < end; task++) { /* a sentence's head */
        const place at = of_head(a, task / a->heads, task % a->heads);
        load_rows(k, a->key, at.key, a->key_stride, at.keys, d_head, 1, low);
        load_rows(v, a->value, at.value, a->value_stride, at.keys, d_head, 1, low);
        memset(of_k, 0, at.keys * size * sizeof *of_k);
        memset(of_v, 0, at.keys * size * sizeof *of_v);
        for (int64_t i = 0; i < at.queries; i += BLOCK) {
            const int64_t rows = least(BLOCK, at.queries - i), width = ROUNDED(rows);
            const int64_t seen = a->causal ? least(at.keys, i + rows) : at.keys;
            const int64_t at_q = at.query + i * a->query_stride;
            load_rows(q, a->query, at_q, a->query_stride, rows, d_head, scale, low);
            turn(q_turned, q, rows, size);
            product(weights, width, (matrix){k, size, 1}, q_turned, width, seen, size, width, 0);
            softmax(weights, seen, width, i, a->causal);
            const int64_t at_f = at.found + i * a->found_stride;
            load_rows(grad, a->of_found, at_f, a->found_stride, rows, d_head, 1, low);
            turn(grad_turned, grad, rows, size);
            product(
                of_weights, width, (matrix){v, size, 1}, grad_turned, width, seen, size, width, 0
            );
            product(of_v, size, (matrix){weights, width, 1}, grad, size, seen, rows, size, 1);
            softmax_gradient(of_weights, weights, seen, width);
            product(of_k, size, (matrix){of_weights, width, 1}, q, size, seen, rows, size, 1);
            product(of_q, size, (matrix){of_weights, 1, width}, k, size, rows, seen, size, 0);
            store_rows(a->of_query, at_q, of_q, a->query_stride, rows, d_head, scale, low);
        }
        store_rows(a->of_key, at.key, of_k, a->key_stride, at.keys, d_head, 1, low);
        store_rows(a->of_value, at.value, of_v, a->value_stride, at.keys, d_head, 1, low);
    }
    free(k);
}
