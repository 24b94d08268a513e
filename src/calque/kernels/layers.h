/* What a stack of layers is told, and the call that runs it; see layers.c. */

#pragma once

#include "matrices.h"

typedef struct {
    int64_t kind, at, to;       /* columns that a step looks at, and those that it fills */
    int64_t width, made;        /* numbers of a row that come in, and that come out */
    int64_t how, activation;
    int64_t centred;            /* layer norm, else RMS norm */
    int64_t layer;              /* of the decoder */
    const float *weight, *bias; /* a bias may be null */
    float epsilon;
} step;

/* What follows the rows. */
typedef struct {
    const float *weight, *bias; /* of the vocabulary, in panels; a bias may be null */
    float *logits;              /* [rows, made]; null: the likeliest are found instead */
    const float *scores;        /* [rows]: of each hypothesis */
    const int64_t *must_end;    /* [sources]: whether only the end may follow */
    float *totals, *log_probs;  /* [sources, size], best first */
    int64_t *parents, *tokens;
    int64_t at, vocab, made, size, pad, bos, eos; /* made: vocab, in whole panels */
} predicting;

/* Keys and values of a source stand layer by layer, keys first; see attended.h. Of the past, a
   hypothesis attends to what it descends from. */
typedef struct {
    const step *steps;
    const float *x;             /* [rows, d_model] */
    const int64_t *starts;      /* the first row of each source, and the end of the last */
    const float *cosine, *sine; /* [rows, d_head], or of all rows: by what queries and keys turn */
    float *memory;
    const int64_t *memory_at, *keys; /* [sources]: where a source's begin, and how many there are */
    float *past;
    const int64_t *past_at; /* [sources] */
    float *descent;         /* [rows, room]: 0 for an entry that it descends from, else -inf */
    int64_t number, d_model, columns, heads, d_head, angles, room;
    predicting words;
} layers;

/* Sources `first` to `end`. */
void run_layers(const layers *given, int64_t first, int64_t end);
