/* From features to logits, and to the likeliest continuations of a source's hypotheses. */

#include "layers.h"

#define PANEL (2 * WIDTH) /* columns of a matrix stand together: [made / PANEL, width, PANEL] */
#define GROUP 16          /* vectors of logits, whose maxima say where to look */

typedef struct {
    float total, log_prob;
    int32_t parent, token;
} candidate;

/* logits[rows, made] of x[rows, width]; behind the vocabulary, of nothing. */
static void find_logits(
    const predicting *p, float *logits, matrix x, int64_t rows, int64_t width
) {
    for (int64_t j = 0; j < p->made; j += PANEL) {
        product(logits + j, p->made, x, p->weight + j * width, PANEL, rows, width, PANEL, 0);
        for (int64_t i = 0; p->bias && i < rows; i++)
            for (int64_t l = j; l < j + PANEL; l += WIDTH) {
                float *at = logits + i * p->made + l;
                store(at, load(at) + load(p->bias + l));
            }
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = p->vocab; j < p->made; j++) logits[i * p->made + j] = -INFINITY;
}

/* Puts a candidate in the place of the worst, which stands first: no parent is better than its
   children, which stand at twice its place and 1 or 2. */
static void replace_worst(candidate *heap, int64_t size, candidate new) {
    int64_t at = 0;
    for (int64_t child = 1; child < size; child = 2 * at + 1) {
        if (child + 1 < size && less(heap[child + 1].total, heap[child].total)) child++;
        if (!less(heap[child].total, new.total)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = new;
}

/* Maxima of each GROUP, lane by lane; the logarithm of the sum of exponentials is top + *rest. */
static float find_maxima(const float *logits, int64_t made, float *maxima, float *rest) {
    vec top = all(-INFINITY), sum = all(0);
    for (int64_t j = 0; j < made; j += GROUP * WIDTH, maxima += WIDTH) {
        vec most = load(logits + j);
        for (int64_t k = j + WIDTH; k < least(made, j + GROUP * WIDTH); k += WIDTH)
            most = larger(load(logits + k), most);
        store(maxima, most);
        top = larger(most, top);
    }
    const float highest = largest_of(top);
    for (int64_t j = 0; j < made; j += WIDTH) sum += exp_of(load(logits + j) - highest);
    *rest = logf(sum_of(sum));
    return highest;
}

/* The continuations of one hypothesis that are better than the worst of the heap. */
static void continue_row(
    const predicting *p, candidate *heap, const float *logits, float score, int32_t parent,
    int must_end, float *maxima
) {
    float rest;
    const float top = find_maxima(logits, p->made, maxima, &rest);
    if (must_end) {
        const float log_prob = logits[p->eos] - top - rest;
        const candidate one = {score + log_prob, log_prob, parent, p->eos};
        if (less(heap->total, one.total)) replace_worst(heap, p->size, one);
        return;
    }
    for (int64_t j = 0; j < p->made; j += GROUP * WIDTH, maxima += WIDTH)
        for (int64_t lane = 0; lane < WIDTH; lane++) {
            if (!less(heap->total, score + (maxima[lane] - top - rest))) continue;
            const int64_t end = least(p->vocab, j + GROUP * WIDTH);
            for (int64_t token = j + lane; token < end; token += WIDTH) {
                const float log_prob = logits[token] - top - rest;
                const candidate one = {score + log_prob, log_prob, parent, token};
                const int follows = token != p->pad && token != p->bos;
                if (follows && less(heap->total, one.total)) replace_worst(heap, p->size, one);
            }
        }
}

/* The best continuations of all hypotheses of a source, from their logits; -inf where there are no
   more. */
static void continue_source(
    const predicting *p, int64_t source, const float *logits, const float *scores, int64_t width,
    float *maxima
) {
    candidate *heap = malloc(p->size * sizeof *heap);
    const int must_end = p->must_end[source];
    for (int64_t i = 0; i < p->size; i++)
        heap[i] = (candidate){-INFINITY, -INFINITY, 0, must_end ? p->eos : p->pad};
    for (int64_t i = 0; i < width; i++)
        continue_row(p, heap, logits + i * p->made, scores[i], i, must_end, maxima);
    for (int64_t last = p->size - 1; last > 0; last--) { /* the worst goes behind what is left */
        const candidate moved = heap[last];
        heap[last] = heap[0];
        replace_worst(heap, last, moved);
    }
    for (int64_t i = 0, at = source * p->size; i < p->size; i++, at++) {
        p->totals[at] = heap[i].total;
        p->log_probs[at] = heap[i].log_prob;
        p->parents[at] = heap[i].parent;
        p->tokens[at] = heap[i].token;
    }
    free(heap);
}
