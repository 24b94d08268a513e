/* Random bits from a counter: those of any place are found again without those before it.

   Threefry 4x32 (doi:10.1145/2063384.2063405, §4.2), for GROUP counters at a time. */

#pragma once

#include "vectors.h"

#define GROUP 16  /* a multiple of any vector's width */
#define ROUNDS 12

typedef struct {
    uint32_t low, high;
} seed;

INLINE void mix(bits *a, bits *b, uint32_t turn) {
    *a += *b;
    *b = ((*b << turn) | (*b >> (32 - turn))) ^ *a;
}

/* words[4, GROUP] = the numbers of counters GROUP * number and following. */
static void threefry(uint32_t *words, seed seed, uint64_t number) {
    static const uint8_t turns[8][2] = {
        {10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20},
    };
    const uint32_t key[5] = {seed.low, seed.high, 0, 0, 0x1bd11bda ^ seed.low ^ seed.high};
    for (int part = 0; part < GROUP; part += WIDTH) {
        const uint64_t counter = number * GROUP + part;
        const bits count = COUNT, none = {};
        bits x[4] = {
            count + (uint32_t)counter + key[0], none + (uint32_t)(counter >> 32) + key[1],
            none + key[2], none + key[3],
        };
#pragma GCC unroll 32
        for (int round = 0; round < ROUNDS; round++) {
            const int other = round % 2 * 2;
            mix(&x[0], &x[1 + other], turns[round % 8][0]);
            mix(&x[2], &x[3 - other], turns[round % 8][1]);
            if (round % 4 < 3) continue;
            const int time = round / 4 + 1;
            for (int i = 0; i < 4; i++) x[i] += key[(time + i) % 5] + (i == 3 ? time : 0);
        }
        for (int i = 0; i < 4; i++) *(bits *)(words + i * GROUP + part) = x[i];
    }
}

/* Dropout: what is left of number i of a tensor depends on the seed and on i alone. */
typedef struct {
    seed key;
    int32_t dropped; /* of 65,536 */
    float scale;     /* of what is kept */
} dropout;

/* The words of the last group of numbers: each has half of one. */
typedef struct {
    uint64_t number;
    uint32_t words[4 * GROUP];
} drawn;

#define NUMBERS (8 * GROUP)
#define NOTHING_DRAWN {.number = -1}

/* What is left of the vector of numbers from number `at` on, a multiple of WIDTH. */
INLINE vec kept(const dropout *d, drawn *last, uint64_t at, vec x) {
    if (!d->dropped) return x;
    if (at / NUMBERS != last->number)
        threefry(last->words, d->key, last->number = at / NUMBERS);
    const uint32_t place = at % NUMBERS / GROUP;
    const bits word = *(const bits *)(last->words + place / 2 * GROUP + at % GROUP);
    const ints random = (ints)((word >> place % 2 * 16) & 0xffff);
    return choose(random >= d->dropped, d->scale * x, all(0));
}
