/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer: CLIP's byte-level BPE, by the rule of transformers 5's CLIPTokenizer: added tokens
 * (the literal start and end tokens among them) are cut out first; the rest is composed (NFC), runs
 * of white space become one space, letters are lowered one by one (no context: no final sigma);
 * what is left of added tokens is cut out of that; then it is split into words, each word's bytes
 * become symbols, and ranked pairs of symbols are merged. */
#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "model/characters.h"
#include "model/tokenizer_table.h"

enum { NO_RANK = INT32_MAX };

void tokenizer_close(tokenizer **t)
{
    if (!*t) return;
    arena_free(&(*t)->memory);
    free((*t)->tokens);
    free((*t)->merges);
    free(*t);
    *t = NULL;
}

int tokenizer_vocab_size(const tokenizer *t) { return t->size; }

json_t *tokenizer_vocab(const tokenizer *t)
{
    json_t *vocab = json_object();
    const char **text = calloc((size_t)t->size + 1, sizeof *text);
    bool ok = vocab && text;
    for (size_t i = 0; ok && i <= t->token_mask; i++)
        if (t->tokens[i].text) text[t->tokens[i].id] = t->tokens[i].text;
    for (int32_t id = 0; ok && id < t->size; id++)
        ok = !text[id] || json_object_set_new(vocab, text[id], json_integer(id)) == 0;
    free(text);
    if (ok) return vocab;
    json_decref(vocab);
    return NULL;
}

const char *tokenizer_added(const tokenizer *t, size_t i, int *id)
{
    for (size_t k = 0; k < t->added.count; k++) {
        const added_token *a = &t->added.item[k];
        if (a->id == t->start || a->id == t->end || i--) continue;
        *id = (int)a->id;
        return a->text;
    }
    return NULL;
}

/* ---- encoding ---- */

/* Symbols of one word: id and first byte (in `normal`), and the rank of each with its right
 * neighbour. */
typedef struct symbol {
    int32_t id, rank;
    size_t at;
} symbol;

typedef struct encoder {
    const tokenizer *t;
    char *normal; /* the text as it is encoded, for `cut` */
    size_t length, capacity;
    size_t end; /* of the part of it that is being split into words */
    symbol *symbols;
    size_t symbol_capacity;
    int32_t *ids;
    int count, room;
    bool overflow;
    size_t cut_at; /* in normal: the first byte of the first token that did not fit */
    error *e;
} encoder;

static void emit(encoder *s, int32_t id, size_t at)
{
    if (s->count < s->room) {
        s->ids[s->count++] = id;
    } else if (!s->overflow) {
        s->overflow = true;
        s->cut_at = at;
    }
}

static bool append(encoder *s, const void *bytes, size_t n)
{
    if (s->length + n + 1 > s->capacity) {
        size_t capacity = 2 * (s->length + n + 64);
        char *grown = realloc(s->normal, capacity);
        if (!grown) return error_memory(s->e, "the prompt", capacity);
        s->normal = grown;
        s->capacity = capacity;
    }
    memcpy(s->normal + s->length, bytes, n);
    s->length += n;
    s->normal[s->length] = 0;
    return true;
}

static bool append_point(encoder *s, int32_t point)
{
    utf8proc_uint8_t bytes[4];
    return append(s, bytes, (size_t)utf8proc_encode_char(point, bytes));
}

/* Appends text composed, with single spaces, lowered. */
static bool normalize(encoder *s, const char *text, size_t length)
{
    utf8proc_uint8_t *composed;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                      &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n == UTF8PROC_ERROR_NOMEM) return error_memory(s->e, "the prompt", length);
    if (n < 0) return error_set(s->e, ERROR_USAGE, "the prompt is not valid UTF-8 text");
    bool ok = true, space = false;
    for (utf8proc_ssize_t i = 0; ok && i < n;) {
        utf8proc_int32_t c;
        i += utf8proc_iterate(composed + i, n - i, &c);
        if (character_is_white(c))
            ok = space || append(s, " ", 1);
        else if (c == 0x130) /* the one letter whose lower case is two code points */
            ok = append(s, "i\xcc\x87", 3);
        else
            ok = append_point(s, utf8proc_tolower(c));
        space = character_is_white(c);
    }
    free(composed);
    return ok;
}

/* What is looked for in normalized text is looked for normalized. */
static bool normalize_one(tokenizer *t, added_token *a, error *e)
{
    encoder s = {.t = t, .e = e};
    if (!a->normalized) return true;
    bool ok = normalize(&s, a->text, strlen(a->text)) &&
              ((a->match = arena_strdup(&t->memory, s.normal)) ||
               error_memory(e, "the tokenizer's vocabulary", s.length));
    free(s.normal);
    return ok;
}

bool tokenizer_normalize_added(tokenizer *t, error *e)
{
    bool ok = true;
    for (size_t i = 0; ok && i < t->added.count; i++) ok = normalize_one(t, &t->added.item[i], e);
    return ok;
}

bool tokenizer_add(tokenizer *t, const char *word, int32_t *id, error *e)
{
    static const char where[] = "the tokenizer";
    size_t count = t->added.count;
    if (!*word)
        return error_set(e, ERROR_USAGE, "there is no word before the =; WORD=FILE is right");
    if (tokenizer_id(t, word, strlen(word)) >= 0)
        return error_set(e, ERROR_MODEL,
                         "the tokenizer has a token \"%.60s\" already; give it another name "
                         "(WORD=FILE)",
                         word);
    if (4 * (t->token_count + 1) > 3 * (t->token_mask + 1))
        return error_set(e, ERROR_MODEL, "the tokenizer has no room for \"%.60s\"", word);
    added_token *item = arena_alloc(&t->memory, (count + 1) * sizeof *item);
    if (!item) return error_memory(e, where, (count + 1) * sizeof *item);
    if (count) memcpy(item, t->added.item, count * sizeof *item);
    added_token *a = &item[count];
    *a = (added_token){.text = arena_strdup(&t->memory, word), .id = t->size, .normalized = true};
    a->match = a->text;
    if (!a->text || !normalize_one(t, a, e)) return error_memory(e, where, strlen(word));
    *id = t->size;
    t->added.item = item;
    t->added.count++;
    return tokenizer_put(t, word, *id, where, e);
}

static int32_t rank_of(const tokenizer *t, const symbol *a, const symbol *b)
{
    const merge *m = tokenizer_merge(t, a->id, b->id);
    return m->rank < 0 ? NO_RANK : m->rank;
}

/* Encodes normal[from..to), one word. */
static bool encode_word(encoder *s, size_t from, size_t to)
{
    const tokenizer *t = s->t;
    size_t n = to - from;
    if (n > s->symbol_capacity) {
        symbol *grown = realloc(s->symbols, 2 * n * sizeof *grown);
        if (!grown) return error_memory(s->e, "the prompt", 2 * n * sizeof *grown);
        s->symbols = grown;
        s->symbol_capacity = 2 * n;
    }
    symbol *a = s->symbols;
    for (size_t i = 0; i < n; i++)
        a[i] = (symbol){t->byte[i == n - 1][(uint8_t)s->normal[from + i]], NO_RANK, from + i};
    for (size_t i = 0; i + 1 < n; i++) a[i].rank = rank_of(t, &a[i], &a[i + 1]);
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (a[i].rank < a[best].rank) best = i;
        if (n < 2 || a[best].rank == NO_RANK) break;
        a[best].id = tokenizer_merge(t, a[best].id, a[best + 1].id)->id;
        memmove(a + best + 1, a + best + 2, (n - best - 2) * sizeof *a);
        n--;
        a[best].rank = best + 1 < n ? rank_of(t, &a[best], &a[best + 1]) : NO_RANK;
        if (best) a[best - 1].rank = rank_of(t, &a[best - 1], &a[best]);
    }
    for (size_t i = 0; i < n; i++) emit(s, a[i].id, a[i].at);
    return true;
}

typedef enum sign { SIGN_SPACE, SIGN_LETTER, SIGN_NUMBER, SIGN_OTHER } sign;

static sign sign_at(const encoder *s, size_t at, size_t *length)
{
    utf8proc_int32_t c = 0;
    *length = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s->normal + at,
                                       (utf8proc_ssize_t)(s->end - at), &c);
    utf8proc_category_t kind = utf8proc_category(c);
    if (character_is_white(c)) return SIGN_SPACE;
    if (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO) return SIGN_LETTER;
    if (kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO) return SIGN_NUMBER;
    return SIGN_OTHER;
}

static bool starts(const encoder *s, size_t at, const char *text)
{
    size_t n = strlen(text);
    return n <= s->end - at && !memcmp(s->normal + at, text, n);
}

/* Length of an English contraction at a place: 's 't 're 've 'm 'll 'd; 0 where there is none. */
static size_t contraction(const encoder *s, size_t at)
{
    static const char *const list[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (starts(s, at, list[i])) return strlen(list[i]);
    return 0;
}

/* Splits normal[from..to) into words. A special token here was typed in capitals (the others were
 * cut out before): CLIPTokenizer's pattern takes it as one piece, and ByteLevel then cuts it in
 * three. */
static bool encode_words(encoder *s, size_t from, size_t to)
{
    size_t length, next;
    s->end = to;
    for (size_t at = from; at < to; at = next) {
        const char *special = starts(s, at, START_TOKEN) ? START_TOKEN
                              : starts(s, at, END_TOKEN) ? END_TOKEN
                                                         : NULL;
        size_t short_form = contraction(s, at);
        sign kind = sign_at(s, at, &length);
        next = at + length;
        if (kind == SIGN_SPACE) continue;
        if (special) {
            next = at + strlen(special);
            if (!encode_word(s, at, at + 2) || !encode_word(s, at + 2, next - 2) ||
                !encode_word(s, next - 2, next))
                return false;
            continue;
        }
        if (short_form)
            next = at + short_form;
        else if (kind != SIGN_NUMBER) /* a number sign is a word of its own */
            while (next < to && sign_at(s, next, &length) == kind) next += length;
        if (!encode_word(s, at, next)) return false;
    }
    return true;
}

/* A piece without added tokens as they are: normalized, and those that are looked for in that cut
 * out. */
static bool encode_piece(encoder *s, const char *text, size_t length)
{
    size_t start = s->length, done = 0, from, to;
    if (!length) return true;
    if (!normalize(s, text, length)) return false;
    size_t size = s->length - start;
    added_cursor cursor = {0};
    for (const added_token *a;
         (a = added_tokens_next(&s->t->added, true, s->normal + start, size, &cursor, &from, &to));
         done = to) {
        if (!encode_words(s, start + done, start + from)) return false;
        emit(s, a->id, start + from);
    }
    return encode_words(s, start + done, start + size);
}

static bool encode_text(encoder *s, const char *text)
{
    size_t length = strlen(text), done = 0, from, to;
    added_cursor cursor = {0};
    for (const added_token *a;
         (a = added_tokens_next(&s->t->added, false, text, length, &cursor, &from, &to));
         done = to) {
        if (!encode_piece(s, text + done, from - done)) return false;
        emit(s, a->id, s->length);
        if (!append(s, text + from, to - from)) return false;
    }
    return encode_piece(s, text + done, length - done);
}

/* The end of normal from cut_at on, moved back to the start of a code point. */
static bool take_cut(encoder *s, char **cut)
{
    size_t at = s->cut_at;
    while (at && ((uint8_t)s->normal[at] & 0xc0) == 0x80) at--;
    *cut = strdup(s->normal + at);
    return *cut || error_memory(s->e, "the prompt", s->length - at);
}

void tokenizer_frame(const tokenizer *t, const int32_t *ids, int count, int length, int32_t *out)
{
    out[0] = t->start;
    if (count && out + 1 != ids) memcpy(out + 1, ids, (size_t)count * sizeof *ids);
    out[1 + count] = t->end;
    for (int i = count + 2; i < length; i++) out[i] = t->pad;
}

int32_t tokenizer_token(const tokenizer *t, const char *text)
{
    return tokenizer_id(t, text, strlen(text));
}

/* A text's tokens alone. */
static bool run_encoder(encoder *s, const char *text)
{
    if (strlen(text) > TEXT_LIMIT)
        return error_set(s->e, ERROR_USAGE, "the prompt has %zu bytes; at most %d are taken",
                         strlen(text), TEXT_LIMIT);
    return encode_text(s, text);
}

static void encoder_close(encoder *s)
{
    free(s->normal);
    free(s->symbols);
}

bool tokenizer_encode(const tokenizer *t, const char *text, int length, int32_t *ids, char **cut,
                      error *e)
{
    encoder s = {.t = t, .ids = ids + 1, .room = length - 2, .e = e};
    if (cut) *cut = NULL;
    bool ok = run_encoder(&s, text);
    if (ok) tokenizer_frame(t, ids + 1, s.count, length, ids);
    if (ok && cut && s.overflow) ok = take_cut(&s, cut);
    encoder_close(&s);
    return ok;
}

bool tokenizer_ids(const tokenizer *t, const char *text, int32_t *ids, int room, int *count,
                   error *e)
{
    encoder s = {.t = t, .ids = ids, .room = room, .e = e};
    bool ok = run_encoder(&s, text);
    *count = s.count;
    encoder_close(&s);
    return ok;
}
