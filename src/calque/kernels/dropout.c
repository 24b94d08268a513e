/* Dropout by itself, over all numbers of a tensor. */

#include "random.h"

#define BLOCK 4096 /* numbers of a part of the work */

typedef struct {
    const void *x;
    void *out;
    int64_t number, low; /* low: bf16, else float32 */
    dropout dropout;
} drop_arguments;

void drop(const drop_arguments *given, int64_t first, int64_t end) {
    const drop_arguments a = *given;
    const int64_t last = end * BLOCK < a.number ? end * BLOCK : a.number;
    drawn drawn = NOTHING_DRAWN;
    int64_t at = first * BLOCK;
    for (; at + WIDTH <= last; at += WIDTH)
        store_any(a.out, at, kept(&a.dropout, &drawn, at, load_any(a.x, at, a.low)), a.low);
    float rest[WIDTH] = {0};
    for (int64_t i = at; i < last; i++) rest[i - at] = load_one(a.x, i, a.low);
    store(rest, kept(&a.dropout, &drawn, at, load(rest)));
    for (int64_t i = at; i < last; i++) store_one(a.out, i, rest[i - at], a.low);
}
