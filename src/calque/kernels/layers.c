/* A stack of layers over rows, from embeddings to the likeliest next words, in one call.

   Rows belong to sources: they are the tokens of each, or its hypotheses' last ones. A block of
   them goes through all steps while it is in the cache, its numbers side by side: a step finds them
   in some columns and leaves what it makes in others. Whoever packs the weights fills them up with
   zeros, so that all widths are whole vectors, those of products whole panels. */

#include "attended.h"
#include "likeliest.h"

#define ROWS 128     /* of a block */
#define PREDICTED 48 /* of them at a time, whose logits stay in the cache */

const int64_t lanes = WIDTH;

/* As in layers.py, by the same names. */
enum { NORM, PRODUCT, TURN, KEEP, ATTEND_OWN, ATTEND_PAST, ATTEND_MEMORY };
enum { NONE, RELU, SWISH, GELU };
enum { SET, ADD, MULTIPLY };

/* Rows `first` to `end`, those of some sources. */
typedef struct {
    float *rows, *scores, *keys; /* keys: and values, of ATTEND_OWN */
    int64_t *slots, *numbers; /* [rows]: where a row's keys go; [sources]: of how many there are */
    int64_t source, end_source, first, end;
} block;

static void normalise(const step *s, float *row) {
    const ints count = COUNT;
    const float *x = row + s->at;
    float *to = row + s->to, mean = 0;
    if (s->centred) {
        vec total = all(0);
        for (int64_t j = 0; j < s->width; j += WIDTH) total += load(x + j);
        mean = sum_of(total) / s->width;
    }
    vec squares = all(0);
    for (int64_t j = 0; j < s->width; j += WIDTH) {
        vec y = choose(count < (int32_t)(s->width - j), load(x + j) - mean, all(0));
        squares += y * y;
    }
    const float inverse = 1 / sqrtf(sum_of(squares) / s->width + s->epsilon);
    for (int64_t j = 0; j < s->width; j += WIDTH) {
        vec y = (load(x + j) - mean) * inverse * load(s->weight + j);
        if (s->bias) y += load(s->bias + j);
        store(to + j, y);
    }
}

INLINE vec activated(vec x, int64_t activation) {
    if (activation == RELU) return choose(x < 0, all(0), x);
    if (activation == SWISH) return x / (1 + exp_of(choose(x < -80, all(80), -x)));
    if (activation != GELU) return x;
    /* x Phi(x), the error function to within 2e-7: Abramowitz and Stegun, 7.1.26. */
    const vec y = 0.70710678f * larger(x, -x), t = 1 / (1 + 0.3275911f * y);
    vec rest = all(1.061405429f);
    rest = rest * t - 1.453152027f;
    rest = rest * t + 1.421413741f;
    rest = rest * t - 0.284496736f;
    rest = rest * t + 0.254829592f;
    rest *= 0.5f * t * exp_of(-y * y);
    return x * choose(x < 0, rest, 1 - rest);
}

static void multiply(const step *s, float *rows, int64_t number, int64_t columns) {
    const int plain = !s->bias && s->activation == NONE && s->how != MULTIPLY;
    float made[TALL * PANEL];
    for (int64_t j = 0; j < s->made; j += PANEL) {
        const float *panel = s->weight + j * s->width;
        float *to = rows + s->to + j;
        const matrix x = {rows + s->at, columns, 1};
        if (plain) {
            product(to, columns, x, panel, PANEL, number, s->width, PANEL, s->how == ADD);
            continue;
        }
        for (int64_t i = 0; i < number; i += TALL, to += TALL * columns) {
            const int64_t height = least(TALL, number - i);
            const matrix part = {x.at + i * columns, columns, 1};
            product(made, PANEL, part, panel, PANEL, height, s->width, PANEL, 0);
            for (int64_t k = 0; k < height; k++)
                for (int64_t l = 0; l < PANEL; l += WIDTH) {
                    vec y = load(made + k * PANEL + l);
                    if (s->bias) y += load(s->bias + j + l);
                    y = activated(y, s->activation);
                    float *at = to + k * columns + l;
                    if (s->how == ADD) y += load(at);
                    if (s->how == MULTIPLY) y *= load(at);
                    store(at, y);
                }
        }
    }
}

/* Queries and keys, side by side, each pair of neighbours by its angle. */
static void turn_pairs(const layers *a, const step *s, float *row, int64_t number) {
    const float *cosine = a->cosine + number * a->angles, *sine = a->sine + number * a->angles;
    for (float *x = row + s->at; x < row + s->at + s->width; x += a->d_head)
        for (int64_t j = 0; j < a->d_head; j += WIDTH) {
            vec pair = load(x + j);
            vec other = MIXED(pair, pair, NEIGHBOURS);
            store(x + j, pair * load(cosine + j) + other * load(sine + j));
        }
}

/* A step of attention for one source, whose rows they are: keys, and behind them values, follow
   queries if they come along. */
static void attend_step(
    const layers *a, const step *s, const block *b, int64_t source, float *rows
) {
    const int64_t first = a->starts[source], number = a->starts[source + 1] - first;
    const int64_t *slots = b->slots + first - b->first;
    const int64_t inner = a->heads * a->d_head, columns = a->columns;
    const float *new = rows + s->at + (s->kind == KEEP ? 0 : inner);
    attended to = {.number = number, .heads = a->heads, .d_head = a->d_head, .columns = columns};
    if (s->kind == ATTEND_PAST) {
        to.number = b->numbers[source - b->source], to.room = a->room;
        to.keys = a->past + a->past_at[source] + s->layer * 2 * inner * to.room;
        to.descent = a->descent + first * to.room;
    } else if (s->kind == ATTEND_OWN) {
        to.room = ROUNDED(number);
        to.keys = b->keys;
    } else {
        if (s->kind == ATTEND_MEMORY) to.number = a->keys[source];
        to.room = ROUNDED(to.number);
        to.keys = a->memory + a->memory_at[source] + s->layer * 2 * inner * to.room;
    }
    to.values = to.keys + inner * to.room;
    if (s->kind != ATTEND_MEMORY) keep(&to, new, slots, number);
    if (s->kind != KEEP) attend_to(&to, rows + s->at, rows + s->to, number, b->scores);
}

static void take(const layers *a, const step *s, const block *b) {
    const int64_t number = b->end - b->first, columns = a->columns;
    if (s->kind == NORM)
        for (int64_t i = 0; i < number; i++) normalise(s, b->rows + i * columns);
    else if (s->kind == PRODUCT) multiply(s, b->rows, number, columns);
    else if (s->kind == TURN)
        for (int64_t i = 0; i < number; i++)
            turn_pairs(a, s, b->rows + i * columns, b->first + i);
    else
        for (int64_t n = b->source; n < b->end_source; n++)
            attend_step(a, s, b, n, b->rows + (a->starts[n] - b->first) * columns);
}

/* The largest number of rows of a source, or of keys that one attends to. */
static int64_t most_of_a_source(const layers *a, int64_t first, int64_t end, int keys) {
    int64_t found = 0;
    for (int64_t n = first; n < end; n++) {
        const int64_t rows = a->starts[n + 1] - a->starts[n];
        found = most(found, keys ? most(a->keys[n], most(a->room, rows)) : rows);
    }
    return found;
}

static void begin(const layers *a, const block *b) {
    const int64_t rest = (a->d_model + PANEL - 1) / PANEL * PANEL - a->d_model;
    for (int64_t i = b->first; i < b->end; i++) {
        float *row = b->rows + (i - b->first) * a->columns;
        memcpy(row, a->x + i * a->d_model, a->d_model * sizeof *row);
        memset(row + a->d_model, 0, rest * sizeof *row);
    }
    for (int64_t n = b->source; n < b->end_source; n++) {
        const int64_t first = a->starts[n], rows = a->starts[n + 1] - first;
        int64_t *slots = b->slots + first - b->first;
        float *descent = a->descent + first * a->room;
        if (a->descent) b->numbers[n - b->source] = find_slots(descent, a->room, rows, slots);
        for (int64_t i = 0; !a->descent && i < rows; i++) slots[i] = i;
    }
}

static int64_t end_of_block(const layers *a, int64_t source, int64_t end, int64_t rows) {
    int64_t next = source + 1;
    while (next < end && a->starts[next + 1] - a->starts[source] <= rows) next++;
    return next;
}

/* What follows the rows of a block. */
static void predict(const layers *a, const block *b, float *logits, float *maxima) {
    const predicting *p = &a->words;
    for (int64_t n = b->source, next; n < b->end_source; n = next) {
        next = end_of_block(a, n, b->end_source, PREDICTED);
        const int64_t first = a->starts[n], rows = a->starts[next] - first;
        float *x = b->rows + (first - b->first) * a->columns + p->at;
        float *made = p->logits ? p->logits + first * p->made : logits;
        find_logits(p, made, (matrix){x, a->columns, 1}, rows, a->d_model);
        for (int64_t m = n; !p->logits && m < next; m++) {
            const int64_t at = a->starts[m] - first, width = a->starts[m + 1] - a->starts[m];
            continue_source(p, m, made + at * p->made, p->scores + first + at, width, maxima);
        }
    }
}

void run_layers(const layers *given, int64_t first, int64_t end) {
    const layers a = *given; /* that no store to memory can change */
    const int64_t longest = most_of_a_source(&a, first, end, 0);
    const int64_t number = a.starts[end] - a.starts[first];
    const int64_t rows = least(number, most(ROWS, longest));
    const int64_t predicted = least(number, most(PREDICTED, longest));
    const int64_t keys = 2 * ROUNDED(longest) * a.heads * a.d_head;
    const int64_t scores = QUERIES * ROUNDED(most_of_a_source(&a, first, end, 1));
    const int choosing = a.words.weight && !a.words.logits;
    const int64_t words = choosing ? a.words.made : 0;
    float *found = memory(rows * a.columns + keys + scores + (predicted + 1) * words);
    block b = {.rows = found, .keys = found + rows * a.columns, .source = first};
    b.scores = b.keys + keys;
    float *maxima = b.scores + scores, *logits = maxima + words;
    memset(b.keys, 0, keys * sizeof *b.keys); /* which there may be, up to a whole vector */
    b.slots = malloc(2 * rows * sizeof *b.slots);
    b.numbers = b.slots + rows;
    for (; b.source < end; b.source = b.end_source) {
        b.end_source = end_of_block(&a, b.source, end, ROWS);
        b.first = a.starts[b.source], b.end = a.starts[b.end_source];
        begin(&a, &b);
        for (int64_t i = 0; i < a.number; i++) take(&a, a.steps + i, &b);
        if (a.words.weight) predict(&a, &b, logits, maxima);
    }
    free(b.slots);
    free(found);
}
