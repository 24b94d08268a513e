/* Search, from encoded sources to whole targets, in one call: what beam.py and greedy.py say.

   Each source has its hypotheses in rows, best first, one at the first step and a beam of them from
   then on. Sources leave when they are done, and the rows of the others close up. */

#include "layers.h"

#define GROWTH 8 /* steps that caches have room for, at first and then again and again */

typedef struct {
    layers step;                         /* of the decoder, but for what changes with the steps */
    const float *embeddings, *positions; /* [vocab, d_model]; [longest + 1, d_model] */
    const int64_t *limits;               /* [sources]: tokens of a target before its end */
    const float *penalties;              /* [longest + 2]: of each length, with the end */
    const volatile int64_t *stop;        /* whether to leave off */
    int64_t *tokens;                     /* [sources, beam, longest + 1], up to the end */
    float *log_probs;                    /* the same */
    float *scores;                       /* [sources, beam], best first; -inf: no target */
    int64_t sources, parts, beam, longest, greedy, depth; /* depth: layers of the decoder */
} search;

/* The last token of a hypothesis, and the row in which the one before it stood. */
typedef struct {
    float log_prob;
    int32_t parent, token;
} link;

/* A target: the step with which it ended, and the row that had come so far. */
typedef struct {
    float score, log_prob;
    int64_t step, parent;
} ending;

/* The search for a part of the sources: those that are `parts` apart. */
typedef struct {
    const search *s;
    layers a;
    int64_t part, all, number;     /* sources that there were, and that there still are */
    int64_t most;                  /* no source has more entries in its cache */
    int64_t *kept;                 /* [number]: which of all */
    int64_t *starts, *memory_at, *keys, *past_at, *must_end; /* see `layers` and `predicting` */
    int64_t *last;                 /* [number, beam] */
    float *sums, *none, *x;        /* [number, beam]: log-probabilities; zeros; and embeddings */
    float *descent, *next_descent; /* [number, beam, room]: as it is, and as it will be */
    link *links;                   /* [longest + 1, all, beam] */
    ending *endings;               /* [all, beam], best first */
} course;

static int64_t source_of(const course *c, int64_t place) {
    return c->part + place * c->s->parts;
}

static void *array(int64_t number, int64_t size) { return malloc(number * size); }

/* Puts a target among those of its source, if it is better than the worst of them. */
static void end_one(ending *endings, int64_t beam, ending one) {
    int64_t at = beam;
    while (at && less(endings[at - 1].score, one.score)) at--;
    if (at == beam) return;
    memmove(endings + at + 1, endings + at, (beam - 1 - at) * sizeof one);
    endings[at] = one;
}

/* Entries of a source's cache that any of its hypotheses descends from. */
static int64_t entries(const float *descent, int64_t rows, int64_t room) {
    int64_t found = 0;
    for (int64_t slot = 0; slot < room; slot++) {
        int used = 0;
        for (int64_t i = 0; i < rows && !used; i++) used = descent[i * room + slot] == 0;
        found += used;
    }
    return found;
}

/* Caches of `room` entries for each source, with what they hold by now. */
static void grow(course *c, int64_t width, int64_t room) {
    layers *a = &c->a;
    const int64_t old = a->room, inner = a->heads * a->d_head, kinds = 2 * c->s->depth;
    float *past = memory(c->number * kinds * inner * room), *to = past;
    for (int64_t i = 0; i < c->number; i++) {
        const float *from = a->past + c->past_at[i];
        c->past_at[i] = to - past;
        for (int64_t k = 0; k < kinds; k++, from += inner * old, to += inner * room)
            memcpy(to, from, inner * old * sizeof *to);
    }
    float *descent = array(c->number * c->s->beam * room, sizeof *descent);
    for (int64_t i = 0; i < c->number * width; i++)
        for (int64_t j = 0; j < room; j++)
            descent[i * room + j] = j < old ? c->descent[i * old + j] : -INFINITY;
    free(a->past);
    free(c->descent);
    free(c->next_descent);
    a->past = past, a->room = room, c->descent = descent;
    c->next_descent = array(c->number * c->s->beam * room, sizeof *descent);
}

/* Room for `width` more entries of each source. */
static void make_room(course *c, int64_t width) {
    const int64_t room = c->a.room;
    if (c->most + width > room) {
        c->most = 0;
        for (int64_t i = 0; i < c->number; i++)
            c->most = most(c->most, entries(c->descent + i * width * room, width, room));
    }
    if (c->most + width > room) grow(c, width, ROUNDED(c->most + GROWTH * c->s->beam));
    c->most += width;
}

/* The likeliest continuations of every row. */
static void find(course *c, int64_t step, int64_t width) {
    const search *s = c->s;
    layers *a = &c->a;
    for (int64_t i = 0; i < c->number * width; i++) {
        const float *embedding = s->embeddings + c->last[i] * a->d_model;
        const float *position = s->positions + step * a->d_model;
        for (int64_t j = 0; j < a->d_model; j++)
            c->x[i * a->d_model + j] = embedding[j] + position[j];
    }
    for (int64_t i = 0; i <= c->number; i++) c->starts[i] = i * width;
    for (int64_t i = 0; i < c->number; i++)
        c->must_end[i] = s->limits[source_of(c, c->kept[i])] <= step;
    if (s->step.cosine) a->cosine = s->step.cosine + step * a->d_head;
    if (s->step.sine) a->sine = s->step.sine + step * a->d_head;
    a->descent = c->descent;
    run_layers(a, 0, c->number);
}

/* Whether a source goes on from the continuations that were found for it; it then stands at `to`.
   An end that ranks below the beam is no rival of the prefixes that go on. */
static int go_on(course *c, int64_t i, int64_t to, int64_t step, int64_t width) {
    const search *s = c->s;
    const predicting *p = &c->a.words;
    const int64_t place = c->kept[i], beam = s->beam, room = c->a.room;
    const float penalty = s->penalties[step + 1];
    ending *endings = c->endings + place * beam;
    link *links = c->links + (step * c->all + place) * beam;
    const float *before = step ? c->sums : c->none; /* which the others' sums are not to cover */
    float sums[beam];
    int64_t going = 0;
    for (int64_t j = i * p->size; j < (i + 1) * p->size; j++) {
        const int64_t parent = p->parents[j];
        const float log_prob = p->log_probs[j], sum = before[i * width + parent] + log_prob;
        if (p->tokens[j] == p->eos) {
            if (j < i * p->size + beam)
                end_one(endings, beam, (ending){sum / penalty, log_prob, step, parent});
        } else if (going < beam) {
            links[going] = (link){log_prob, parent, p->tokens[j]};
            sums[going++] = sum;
        }
    }
    if (c->must_end[i] || going < beam) return 0;
    if (sums[0] / penalty <= endings[beam - 1].score) return 0;
    for (int64_t j = 0; j < beam; j++) {
        const int64_t row = to * beam + j;
        c->last[row] = links[j].token;
        c->sums[row] = sums[j];
        memcpy(
            c->next_descent + row * room, c->descent + (i * width + links[j].parent) * room,
            room * sizeof(float)
        );
    }
    c->kept[to] = place;
    c->memory_at[to] = c->memory_at[i], c->keys[to] = c->keys[i], c->past_at[to] = c->past_at[i];
    return 1;
}

/* The targets of a source, token by token from the last. */
static void give(const course *c, int64_t place) {
    const search *s = c->s;
    for (int64_t j = 0; j < s->beam; j++) {
        const ending *e = c->endings + place * s->beam + j;
        const int64_t at = source_of(c, place) * s->beam + j;
        int64_t *tokens = s->tokens + at * (s->longest + 1), row = e->parent;
        float *log_probs = s->log_probs + at * (s->longest + 1);
        s->scores[at] = e->score;
        if (e->step < 0) continue;
        tokens[e->step] = c->a.words.eos;
        log_probs[e->step] = e->log_prob;
        for (int64_t step = e->step - 1; step >= 0; step--) {
            const link *one = c->links + (step * c->all + place) * s->beam + row;
            tokens[step] = one->token;
            log_probs[step] = one->log_prob;
            row = one->parent;
        }
    }
}

/* Hypotheses of BOS alone, one for each source. */
static void begin(course *c, const search *s, int64_t part) {
    const int64_t all = (s->sources - part + s->parts - 1) / s->parts, rows = all * s->beam;
    predicting *p = &c->a.words;
    *c = (course){.s = s, .a = s->step, .part = part, .all = all, .number = all};
    c->kept = array(6 * all + 1, sizeof *c->kept);
    c->memory_at = c->kept + all, c->keys = c->memory_at + all, c->past_at = c->keys + all;
    c->must_end = c->past_at + all, c->starts = c->must_end + all;
    c->last = array(rows + 2 * all * p->size, sizeof *c->last);
    p->parents = c->last + rows, p->tokens = p->parents + all * p->size;
    c->sums = array(2 * rows + rows * c->a.d_model + 2 * all * p->size, sizeof *c->sums);
    c->none = c->sums + rows, c->x = c->none + rows;
    p->totals = c->x + rows * c->a.d_model, p->log_probs = p->totals + all * p->size;
    c->links = array((s->longest + 1) * rows, sizeof *c->links);
    c->endings = array(rows, sizeof *c->endings);
    for (int64_t i = 0; i < all; i++) {
        const int64_t source = source_of(c, i);
        c->kept[i] = i, c->last[i] = p->bos, c->past_at[i] = 0;
        c->memory_at[i] = s->step.memory_at[source], c->keys[i] = s->step.keys[source];
    }
    for (int64_t i = 0; i < rows; i++) {
        c->sums[i] = c->none[i] = 0;
        c->endings[i] = (ending){-INFINITY, 0, -1, 0};
    }
    c->a.x = c->x, c->a.starts = c->starts, c->a.memory_at = c->memory_at, c->a.keys = c->keys;
    c->a.past_at = c->past_at, p->must_end = c->must_end;
    /* The likeliest next token by itself, whatever the sum rounds it to. */
    p->scores = s->greedy ? c->none : c->sums;
}

static void search_part(const search *s, int64_t part) {
    course c;
    begin(&c, s, part);
    for (int64_t step = 0, width = 1; c.number && !*s->stop; step++, width = s->beam) {
        int64_t staying = 0;
        make_room(&c, width);
        find(&c, step, width);
        for (int64_t i = 0; i < c.number; i++) {
            const int64_t place = c.kept[i];
            if (go_on(&c, i, staying, step, width)) staying++;
            else give(&c, place);
        }
        c.number = staying;
        float *descent = c.descent;
        c.descent = c.next_descent, c.next_descent = descent;
    }
    free(c.kept), free(c.last), free(c.sums), free(c.links), free(c.endings);
    free(c.a.past), free(c.descent), free(c.next_descent);
}

/* Parts `first` to `end` of all. */
void run_search(const search *s, int64_t first, int64_t end) {
    for (int64_t part = first; part < end; part++) search_part(s, part);
}
