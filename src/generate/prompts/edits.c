/* SPDX-License-Identifier: Apache-2.0
 *
 * edits: see edits.h. The text is cut into signs and stretches once; brackets that belong together
 * are found with a stack (a bracket that cannot be one of the forms above is text, and so are all
 * that are open around it). Then the text of each part of the way is written out, with a stack too:
 * depth costs memory, never the program's stack. */
#include "edits.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "prompt_words.h"

typedef enum form { FORM_TEXT, FORM_PLAIN, FORM_CHANGE, FORM_TURNS } form;

typedef struct sign {
    char kind; /* one of ()[]:| or 0: a stretch of text */
    const char *at;
    size_t length;
    form form;  /* of an opening bracket */
    int close;  /* its closing one */
    int next;   /* the bracket's first : or |; of one of these the next; the last's: `close` */
    int change; /* FORM_CHANGE: the evaluation after which the text changes */
} sign;

/* A bracket that is open. */
typedef struct frame {
    int open, last; /* last: the : or | before, or open */
    int colons, pipes;
} frame;

typedef struct reader {
    sign *list;
    frame *stack;
    int count, depth, evaluations, before;
    bool literal; /* a | outside of turns, a \ at the end: all of it is text */
    bool turns;
} reader;

/* ---- signs ---- */

/* A stretch up to the next sign; a backslash takes the next character with it, but for a newline.
 * 0: it has none to take. */
static size_t stretch_at(const char *p)
{
    const char *q = p;
    while (*q && !strchr("()[]:|", *q)) {
        if (*q == '\\' && (!q[1] || q[1] == '\n')) return 0;
        q += *q == '\\' ? 2 : 1;
    }
    return (size_t)(q - p);
}

static void cut(reader *r, const char *text)
{
    for (const char *p = text; *p && !r->literal;) {
        bool mark = strchr("()[]:|", *p);
        size_t n = mark ? 1 : stretch_at(p);
        r->literal = !n;
        r->list[r->count++] = (sign){.kind = mark ? *p : 0, .at = p, .length = n};
        p += n;
    }
}

/* ---- brackets ---- */

static const char *skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9') p++;
    return p;
}

/* The end of a number such as 3, -0.5, .5, 2., 1e3 at p; p: there is none. */
static const char *number_end(const char *p)
{
    const char *q = *p == '+' || *p == '-' ? p + 1 : p, *digits = q;
    q = skip_digits(q);
    size_t n = (size_t)(q - digits);
    if (*q == '.') {
        const char *more = skip_digits(q + 1);
        if (!n && more == q + 1) return p;
        q = more;
    } else if (!n) {
        return p;
    }
    if (*q != 'e' && *q != 'E') return q;
    const char *power = q[1] == '+' || q[1] == '-' ? q + 2 : q + 1, *end = skip_digits(power);
    return end > power ? end : q;
}

/* Whether the signs between two places are one number, and at which evaluation that is. */
static bool when_between(const reader *r, int from, int to, int *out)
{
    if (to - from != 2 || r->list[from + 1].kind) return false;
    const sign *s = &r->list[from + 1];
    const char *end = s->at + s->length, *p = prompt_skip_spaces(s->at, end), *q = number_end(p);
    char copy[320];
    double value;
    if (q == p || prompt_skip_spaces(q, end) != end || (size_t)(q - p) >= sizeof copy) return false;
    memcpy(copy, p, (size_t)(q - p));
    copy[q - p] = '\0';
    if (!number_parse(copy, NULL, &value)) return false;
    if (strchr(copy, '.'))
        value = (value - (r->before ? 1 : 0)) * r->evaluations;
    else
        value -= r->before;
    *out = value >= r->evaluations ? r->evaluations : value > 0 ? (int)value : 0;
    return true;
}

/* What the signs from the frame's bracket to the one that closes it are. */
static form form_of(const reader *r, const frame *f, int close, int *change)
{
    bool square = r->list[close].kind == ']';
    if (f->pipes) return square && !f->colons ? FORM_TURNS : FORM_TEXT;
    if (!f->colons || (!square && f->colons == 1)) return FORM_PLAIN;
    if (square && f->colons <= 2 && when_between(r, f->last, close, change)) return FORM_CHANGE;
    return FORM_TEXT;
}

/* All that are open are text. */
static void give_up(reader *r)
{
    for (int i = 0; i < r->depth; i++)
        if (r->stack[i].pipes) r->literal = true;
    r->depth = 0;
}

static void close_bracket(reader *r, int at)
{
    frame *f = r->depth ? &r->stack[r->depth - 1] : NULL;
    bool pair = f && r->list[f->open].kind == (r->list[at].kind == ')' ? '(' : '[');
    int change = 0;
    form is = pair ? form_of(r, f, at, &change) : FORM_TEXT;
    if (is == FORM_TEXT) {
        give_up(r);
        return;
    }
    sign *open = &r->list[f->open];
    open->form = is;
    open->close = at;
    open->change = change;
    r->list[f->last].next = at;
    r->turns = r->turns || is == FORM_TURNS;
    r->depth--;
}

static void separate(reader *r, int at)
{
    frame *f = r->depth ? &r->stack[r->depth - 1] : NULL;
    bool pipe = r->list[at].kind == '|';
    if (!f) {
        r->literal = r->literal || pipe;
        return;
    }
    r->list[f->last].next = at;
    f->last = at;
    f->pipes += pipe;
    f->colons += !pipe;
}

static void pair_brackets(reader *r)
{
    for (int i = 0; i < r->count && !r->literal; i++) {
        char kind = r->list[i].kind;
        if (kind == '(' || kind == '[')
            r->stack[r->depth++] = (frame){.open = i, .last = i};
        else if (kind == ')' || kind == ']')
            close_bracket(r, i);
        else if (kind)
            separate(r, i);
    }
    give_up(r);
}

/* ---- the text of one part of the way ---- */

typedef struct range {
    int from, to;
} range;

/* The section of a bracket that counts at a step (from 1); empty where there is none. */
static range section(const reader *r, int open, int step)
{
    const sign *s = &r->list[open];
    int from = open, n = 0, want;
    for (int i = s->next; i != s->close; i = r->list[i].next) n++;
    if (s->form == FORM_TURNS) {
        want = (step - 1) % (n + 1);
    } else {
        want = step <= s->change ? n - 2 : n - 1;
        if (want < 0) return (range){0, 0};
    }
    while (want--) from = r->list[from].next;
    return (range){from + 1, r->list[from].next};
}

/* out has room for the whole text; todo for as many ranges as there are signs. */
static void write_out(const reader *r, int step, char *out, range *todo)
{
    int depth = 0;
    todo[depth++] = (range){0, r->count};
    while (depth) {
        range *now = &todo[depth - 1];
        if (now->from >= now->to) {
            depth--;
            continue;
        }
        const sign *s = &r->list[now->from];
        if (s->form == FORM_CHANGE || s->form == FORM_TURNS) {
            range its = section(r, now->from, step);
            now->from = s->close + 1;
            todo[depth++] = its;
            continue;
        }
        memcpy(out, s->at, s->length);
        out += s->length;
        now->from++;
    }
    *out = '\0';
}

/* ---- all of them ---- */

static bool add(edits *out, int until, char *text, size_t bytes, error *e)
{
    if (!text) return error_memory(e, "a prompt", bytes);
    out->item[out->count++] = (edit){until, text};
    return true;
}

static bool write_all(edits *out, const reader *r, const bool *ends, size_t bytes, error *e)
{
    range *todo = malloc(((size_t)r->count + 1) * sizeof *todo);
    bool ok = todo || error_memory(e, "a prompt", (size_t)r->count * sizeof *todo);
    for (int step = 1; ok && step <= r->evaluations; step++) {
        if (!ends[step]) continue;
        char *text = malloc(bytes);
        if (text) write_out(r, step, text, todo);
        ok = add(out, step, text, bytes, e);
    }
    free(todo);
    return ok;
}

void edits_close(edits *l)
{
    for (int i = 0; i < l->count; i++) free(l->item[i].text);
    free(l->item);
    *l = (edits){0};
}

bool edits_read(edits *out, const char *text, int evaluations, int before, error *e)
{
    size_t n = strlen(text) + 1, most = (size_t)evaluations + 1;
    reader r = {.list = calloc(n, sizeof *r.list),
                .stack = malloc(n * sizeof *r.stack),
                .evaluations = evaluations,
                .before = before};
    bool *ends = calloc(most, sizeof *ends);
    *out = (edits){.item = calloc(most, sizeof *out->item)};
    bool ok = (r.list && r.stack && ends && out->item) ||
              error_memory(e, "a prompt", n * (sizeof *r.list + sizeof *r.stack));
    if (ok) cut(&r, text);
    if (ok) pair_brackets(&r);
    if (ok) ends[evaluations] = true;
    for (int i = 0; ok && i < r.count; i++)
        if (r.list[i].form == FORM_CHANGE) ends[r.list[i].change] = true;
    for (int i = 1; ok && r.turns && i <= evaluations; i++) ends[i] = true;
    if (ok && r.literal) {
        ok = add(out, evaluations, strdup(text), n, e);
    } else {
        ok = ok && write_all(out, &r, ends, n, e);
    }
    if (!ok) edits_close(out);
    free(r.list);
    free(r.stack);
    free(ends);
    return ok;
}

int edits_at(const edits *l, int evaluation)
{
    int i = 0;
    while (i < l->count - 1 && evaluation > l->item[i].until) i++;
    return i;
}
