/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer: CLIP's byte-level BPE, by the rule of transformers 5's CLIPTokenizer: literal start and end
 * tokens are cut out first; the rest is composed (NFC), runs of white space become one space, letters
 * are lowered one by one (no context: no final sigma); then it is split into words, each word's bytes
 * become symbols, and ranked pairs of symbols are merged. Two open-addressing tables, tokens by text and
 * merges by pair, make loading and look-ups quick. */
#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/arena.h"
#include "base/platform.h"
#include "model/fields.h"

#define START_TOKEN "<|startoftext|>"
#define END_TOKEN "<|endoftext|>"
#define WORD_END "</w>"
enum { TOKENIZER_LIMIT = 64 << 20, MAX_ID = 1 << 24, TEXT_LIMIT = 32 << 10, NO_RANK = INT32_MAX };

typedef struct token { const char *text; uint32_t hash; int32_t id; } token;
typedef struct merge { uint64_t pair; int32_t rank, id; } merge; /* rank -1: a free place */

struct tokenizer {
    arena memory;       /* the tokens' text */
    token *tokens;      /* open addressing, a power of two of places */
    merge *merges;
    size_t token_mask, merge_mask;
    size_t token_count;
    int32_t start, end, pad, size;
    int32_t byte[2][256]; /* id of a byte's sign, and of the sign that ends a word */
};

/* ---- tables ---- */

static uint32_t hash_text(const char *text, size_t length)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h ^ h >> 15;
}

static uint64_t pair_of(int32_t a, int32_t b)
{
    return (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
}

static size_t hash_pair(uint64_t pair)
{
    pair *= 0x9e3779b97f4a7c15u;
    return (size_t)(pair >> 32);
}

/* Places for n entries, at most half full. */
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

static token *find_token(const tokenizer *t, const char *text, size_t length)
{
    uint32_t hash = hash_text(text, length);
    size_t i = hash & t->token_mask;
    for (; t->tokens[i].text; i = (i + 1) & t->token_mask)
        if (t->tokens[i].hash == hash && !strncmp(t->tokens[i].text, text, length) &&
            !t->tokens[i].text[length])
            break;
    return &t->tokens[i];
}

/* The id of a token, -1 where there is none. */
static int32_t token_id(const tokenizer *t, const char *text, size_t length)
{
    const token *found = find_token(t, text, length);
    return found->text ? found->id : -1;
}

static merge *find_merge(const tokenizer *t, uint64_t pair)
{
    size_t i = hash_pair(pair) & t->merge_mask;
    while (t->merges[i].rank >= 0 && t->merges[i].pair != pair)
        i = (i + 1) & t->merge_mask;
    return &t->merges[i];
}

static bool add_token(tokenizer *t, const char *text, const json_t *id, const char *where, error *e)
{
    json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    if (number < 0 || number >= MAX_ID)
        return error_set(e, ERROR_FORMAT, "%s: token \"%.60s\" has no valid id", where, text);
    size_t length = strlen(text);
    token *place = find_token(t, text, length);
    if (place->text)
        return true;
    const char *copy = arena_strdup(&t->memory, text);
    if (!copy)
        return error_memory(e, "the tokenizer's vocabulary", length);
    *place = (token){copy, hash_text(text, length), (int32_t)number};
    t->token_count++;
    if (number >= t->size)
        t->size = (int32_t)number + 1;
    return true;
}

/* Adds every token of a vocabulary object; room is made for `extra` more. */
static bool add_vocab(tokenizer *t, json_t *vocab, size_t extra, const char *where, error *e)
{
    if (!json_is_object(vocab) || !json_object_size(vocab))
        return error_set(e, ERROR_FORMAT, "%s: has no vocabulary", where);
    size_t places = table_size(json_object_size(vocab) + extra);
    t->tokens = calloc(places, sizeof *t->tokens);
    if (!t->tokens)
        return error_memory(e, "the tokenizer's vocabulary", places * sizeof *t->tokens);
    t->token_mask = places - 1;
    for (void *i = json_object_iter(vocab); i; i = json_object_iter_next(vocab, i))
        if (!add_token(t, json_object_iter_key(i), json_object_iter_value(i), where, e))
            return false;
    return true;
}

static bool make_merges(tokenizer *t, size_t count, error *e)
{
    size_t places = table_size(count);
    t->merges = malloc(places * sizeof *t->merges);
    if (!t->merges)
        return error_memory(e, "the tokenizer's merges", places * sizeof *t->merges);
    for (size_t i = 0; i < places; i++)
        t->merges[i] = (merge){.rank = -1};
    t->merge_mask = places - 1;
    return true;
}

/* Records that a, b merge into ab; the earlier of two equal pairs wins. */
static bool add_merge(tokenizer *t, const char *a, size_t a_length, const char *b, size_t b_length,
                      int32_t rank, const char *where, error *e)
{
    char joined[1024];
    if (!a_length || !b_length || a_length + b_length > sizeof joined)
        return error_set(e, ERROR_FORMAT, "%s: merge %d is not a pair of tokens", where, rank + 1);
    memcpy(joined, a, a_length);
    memcpy(joined + a_length, b, b_length);
    int32_t first = token_id(t, a, a_length), second = token_id(t, b, b_length);
    int32_t whole = token_id(t, joined, a_length + b_length);
    if (first < 0 || second < 0 || whole < 0)
        return error_set(e, ERROR_FORMAT, "%s: merge %d (\"%.*s\" \"%.*s\") names a token that the "
                         "vocabulary lacks", where, rank + 1, (int)a_length, a, (int)b_length, b);
    merge *place = find_merge(t, pair_of(first, second));
    if (place->rank < 0)
        *place = (merge){pair_of(first, second), rank, whole};
    return true;
}

/* ---- files ---- */

/* merges.txt: "a b" a line; a first line that begins with #version is a comment. */
static bool parse_merges(tokenizer *t, const char *text, const char *where, error *e)
{
    size_t lines = 1;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    if (!make_merges(t, lines, e))
        return false;
    int32_t rank = 0;
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\r\n");
        const char *space = memchr(line, ' ', length);
        bool comment = line == text && !strncmp(line, "#version", 8);
        if (length && !comment) {
            size_t a_length = space ? (size_t)(space - line) : length;
            if (!add_merge(t, line, a_length, line + a_length + 1,
                           space ? length - a_length - 1 : 0, rank, where, e))
                return false;
            rank++;
        }
        line += length;
        line += strspn(line, "\r\n");
    }
    return true;
}

static bool open_vocab_and_merges(tokenizer *t, const char *vocab, const char *merges, error *e)
{
    fields f;
    if (!fields_open(&f, vocab, TOKENIZER_LIMIT, e))
        return false;
    bool ok = add_vocab(t, f.root, 0, vocab, e);
    fields_close(&f);
    char *text;
    if (!ok || !file_read(merges, TOKENIZER_LIMIT, &text, NULL, e))
        return false;
    ok = parse_merges(t, text, merges, e);
    free(text);
    return ok;
}

/* A merge in tokenizer.json: ["a","b"], or "a b" in older files. */
static bool add_json_merge(tokenizer *t, const json_t *item, int32_t rank, const char *where,
                           error *e)
{
    const char *a = json_string_value(json_is_array(item) ? json_array_get(item, 0) : item);
    const char *b = json_string_value(json_array_get(item, 1));
    size_t a_length = a ? strlen(a) : 0;
    if (a && !b && (b = strchr(a, ' '))) {
        a_length = (size_t)(b - a);
        b++;
    }
    return add_merge(t, a ? a : "", a_length, b ? b : "", b ? strlen(b) : 0, rank, where, e);
}

static bool read_tokenizer_json(tokenizer *t, const json_t *root, const char *where, error *e)
{
    const json_t *model = json_object_get(root, "model"), *merges = json_object_get(model, "merges");
    const json_t *added = json_object_get(root, "added_tokens");
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if ((type && strcmp(type, "BPE")) || !suffix || strcmp(suffix, WORD_END) ||
        !json_is_array(merges))
        return error_set(e, ERROR_MODEL, "%s: is not CLIP's tokenizer (byte-pair encoding with "
                         "\"" WORD_END "\")", where);
    if (!add_vocab(t, json_object_get(model, "vocab"), json_array_size(added), where, e) ||
        !make_merges(t, json_array_size(merges), e))
        return false;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *item = json_array_get(added, i);
        const char *text = json_string_value(json_object_get(item, "content"));
        if (text && !add_token(t, text, json_object_get(item, "id"), where, e))
            return false;
    }
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (!add_json_merge(t, json_array_get(merges, i), (int32_t)i, where, e))
            return false;
    return true;
}

static bool open_json(tokenizer *t, const char *path, error *e)
{
    fields f;
    if (!fields_open(&f, path, TOKENIZER_LIMIT, e))
        return false;
    bool ok = read_tokenizer_json(t, f.root, path, e);
    fields_close(&f);
    return ok;
}

/* The padding token of tokenizer_config.json, where there is such a file and it names one. */
static bool read_pad(tokenizer *t, const char *path, error *e)
{
    fields f;
    if (!path_is_file(path))
        return true;
    if (!fields_open(&f, path, TOKENIZER_LIMIT, e))
        return false;
    json_t *pad = field(&f, "pad_token");
    const char *text = json_string_value(json_is_object(pad) ? json_object_get(pad, "content") : pad);
    int32_t id = text ? token_id(t, text, strlen(text)) : -1;
    if (id >= 0)
        t->pad = id;
    fields_close(&f);
    return true;
}

/* ---- signs of bytes ---- */

/* OpenAI's reversible map: printable Latin-1 bytes stand for themselves, the others for U+0100... */
static int sign_of_byte(int byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
        return byte;
    int before = 0; /* unprintable bytes below this one */
    for (int i = 0; i < byte; i++)
        before += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174);
    return 256 + before;
}

static bool finish_tables(tokenizer *t, const char *folder, error *e)
{
    t->start = token_id(t, START_TOKEN, strlen(START_TOKEN));
    t->end = token_id(t, END_TOKEN, strlen(END_TOKEN));
    if (t->start < 0 || t->end < 0)
        return error_set(e, ERROR_FORMAT, "%s: the vocabulary lacks %s", folder,
                         t->start < 0 ? START_TOKEN : END_TOKEN);
    t->pad = t->end;
    for (int byte = 0; byte < 256; byte++) {
        char text[12];
        size_t n = (size_t)utf8proc_encode_char(sign_of_byte(byte), (utf8proc_uint8_t *)text);
        memcpy(text + n, WORD_END, sizeof WORD_END);
        int32_t inner = token_id(t, text, n), last = token_id(t, text, n + strlen(WORD_END));
        t->byte[0][byte] = inner < 0 ? t->end : inner; /* the unknown token is the end token */
        t->byte[1][byte] = last < 0 ? t->end : last;
    }
    return true;
}

bool tokenizer_open(tokenizer **out, const char *folder, error *e)
{
    *out = NULL;
    char *json = path_join(folder, "tokenizer.json"), *vocab = path_join(folder, "vocab.json");
    char *merges = path_join(folder, "merges.txt");
    char *settings = path_join(folder, "tokenizer_config.json");
    tokenizer *t = calloc(1, sizeof *t);
    bool ok = json && vocab && merges && settings && t;
    if (!ok)
        error_memory(e, "the tokenizer", sizeof *t);
    else if (path_is_file(json))
        ok = open_json(t, json, e);
    else if (path_is_file(vocab) && path_is_file(merges))
        ok = open_vocab_and_merges(t, vocab, merges, e);
    else
        ok = error_set(e, ERROR_FILE, "%s: no tokenizer there (tokenizer.json, or vocab.json and "
                       "merges.txt)", folder);
    ok = ok && finish_tables(t, folder, e) && read_pad(t, settings, e);
    free(json);
    free(vocab);
    free(merges);
    free(settings);
    if (ok)
        *out = t;
    else
        tokenizer_close(&t);
    return ok;
}

void tokenizer_close(tokenizer **t)
{
    if (!*t)
        return;
    arena_free(&(*t)->memory);
    free((*t)->tokens);
    free((*t)->merges);
    free(*t);
    *t = NULL;
}

int tokenizer_vocab_size(const tokenizer *t)
{
    return t->size;
}

/* ---- encoding ---- */

/* Symbols of one word: id and first byte (in `normal`), and the rank of each with its right neighbour. */
typedef struct symbol { int32_t id, rank; size_t at; } symbol;

typedef struct encoder {
    const tokenizer *t;
    char *normal;         /* the text as it is encoded, for `cut` */
    size_t length, capacity;
    symbol *symbols;
    size_t symbol_capacity;
    int32_t *ids;
    int count, room;
    bool overflow;
    size_t cut_at;        /* in normal: the first byte of the first token that did not fit */
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
        if (!grown)
            return error_memory(s->e, "the prompt", capacity);
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

/* Unicode's White_Space, which is what \s means to the tokenizer. */
static bool is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* Appends text composed, with single spaces, lowered. */
static bool normalize(encoder *s, const char *text, size_t length)
{
    utf8proc_uint8_t *composed;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                      &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n == UTF8PROC_ERROR_NOMEM)
        return error_memory(s->e, "the prompt", length);
    if (n < 0)
        return error_set(s->e, ERROR_USAGE, "the prompt is not valid UTF-8 text");
    bool ok = true, space = false;
    for (utf8proc_ssize_t i = 0; ok && i < n;) {
        utf8proc_int32_t c;
        i += utf8proc_iterate(composed + i, n - i, &c);
        if (is_space(c))
            ok = space || append(s, " ", 1);
        else if (c == 0x130) /* the one letter whose lower case is two code points */
            ok = append(s, "i\xcc\x87", 3);
        else
            ok = append_point(s, utf8proc_tolower(c));
        space = is_space(c);
    }
    free(composed);
    return ok;
}

static int32_t rank_of(const tokenizer *t, const symbol *a, const symbol *b)
{
    const merge *m = find_merge(t, pair_of(a->id, b->id));
    return m->rank < 0 ? NO_RANK : m->rank;
}

/* Encodes normal[from..to), one word. */
static bool encode_word(encoder *s, size_t from, size_t to)
{
    const tokenizer *t = s->t;
    size_t n = to - from;
    if (n > s->symbol_capacity) {
        symbol *grown = realloc(s->symbols, 2 * n * sizeof *grown);
        if (!grown)
            return error_memory(s->e, "the prompt", 2 * n * sizeof *grown);
        s->symbols = grown;
        s->symbol_capacity = 2 * n;
    }
    symbol *a = s->symbols;
    for (size_t i = 0; i < n; i++)
        a[i] = (symbol){t->byte[i == n - 1][(uint8_t)s->normal[from + i]], NO_RANK, from + i};
    for (size_t i = 0; i + 1 < n; i++)
        a[i].rank = rank_of(t, &a[i], &a[i + 1]);
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (a[i].rank < a[best].rank)
                best = i;
        if (n < 2 || a[best].rank == NO_RANK)
            break;
        a[best].id = find_merge(t, pair_of(a[best].id, a[best + 1].id))->id;
        memmove(a + best + 1, a + best + 2, (n - best - 2) * sizeof *a);
        n--;
        a[best].rank = best + 1 < n ? rank_of(t, &a[best], &a[best + 1]) : NO_RANK;
        if (best)
            a[best - 1].rank = rank_of(t, &a[best - 1], &a[best]);
    }
    for (size_t i = 0; i < n; i++)
        emit(s, a[i].id, a[i].at);
    return true;
}

typedef enum sign { SIGN_SPACE, SIGN_LETTER, SIGN_NUMBER, SIGN_OTHER } sign;

static sign sign_at(const encoder *s, size_t at, size_t *length)
{
    utf8proc_int32_t c = 0;
    *length = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s->normal + at,
                                       (utf8proc_ssize_t)(s->length - at), &c);
    utf8proc_category_t kind = utf8proc_category(c);
    if (is_space(c))
        return SIGN_SPACE;
    if (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO)
        return SIGN_LETTER;
    if (kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO)
        return SIGN_NUMBER;
    return SIGN_OTHER;
}

static bool starts(const encoder *s, size_t at, const char *text)
{
    return !strncmp(s->normal + at, text, strlen(text)); /* normal ends in a zero byte */
}

/* Length of an English contraction at a place: 's 't 're 've 'm 'll 'd; 0 where there is none. */
static size_t contraction(const encoder *s, size_t at)
{
    static const char *const list[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (starts(s, at, list[i]))
            return strlen(list[i]);
    return 0;
}

/* Splits normal[from..] into words. A special token here was typed in capitals (the others were cut
 * out before): CLIPTokenizer's pattern takes it as one piece, and ByteLevel then cuts it in three. */
static bool encode_words(encoder *s, size_t from)
{
    size_t length, next;
    for (size_t at = from; at < s->length; at = next) {
        const char *special = starts(s, at, START_TOKEN) ? START_TOKEN
                            : starts(s, at, END_TOKEN) ? END_TOKEN : NULL;
        size_t short_form = contraction(s, at);
        sign kind = sign_at(s, at, &length);
        next = at + length;
        if (kind == SIGN_SPACE)
            continue;
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
            while (next < s->length && sign_at(s, next, &length) == kind)
                next += length;
        if (!encode_word(s, at, next))
            return false;
    }
    return true;
}

/* The first literal start or end token in text; *length 0 and the text's end where there is none. */
static const char *find_special(const tokenizer *t, const char *text, size_t *length, int32_t *id)
{
    const char *start = strstr(text, START_TOKEN), *end = strstr(text, END_TOKEN);
    bool is_start = start && (!end || start < end);
    *id = is_start ? t->start : t->end;
    *length = is_start ? strlen(START_TOKEN) : end ? strlen(END_TOKEN) : 0;
    return is_start ? start : end ? end : text + strlen(text);
}

static bool encode_text(encoder *s, const char *text)
{
    while (*text) {
        size_t special, from = s->length;
        int32_t id;
        const char *end = find_special(s->t, text, &special, &id);
        if (end > text && (!normalize(s, text, (size_t)(end - text)) || !encode_words(s, from)))
            return false;
        if (special) {
            emit(s, id, s->length);
            if (!append(s, end, special))
                return false;
        }
        text = end + special;
    }
    return true;
}

/* The end of normal from cut_at on, moved back to the start of a code point. */
static bool take_cut(encoder *s, char **cut)
{
    size_t at = s->cut_at;
    while (at && ((uint8_t)s->normal[at] & 0xc0) == 0x80)
        at--;
    *cut = strdup(s->normal + at);
    return *cut || error_memory(s->e, "the prompt", s->length - at);
}

bool tokenizer_encode(const tokenizer *t, const char *text, int length, int32_t *ids, char **cut,
                      error *e)
{
    if (cut)
        *cut = NULL;
    if (strlen(text) > TEXT_LIMIT)
        return error_set(e, ERROR_USAGE, "the prompt has %zu bytes; at most %d are taken",
                         strlen(text), TEXT_LIMIT);
    encoder s = {.t = t, .ids = ids + 1, .room = length - 2, .e = e};
    ids[0] = t->start;
    bool ok = encode_text(&s, text);
    if (ok) {
        ids[1 + s.count] = t->end;
        for (int i = s.count + 2; i < length; i++)
            ids[i] = t->pad;
        if (cut && s.overflow)
            ok = take_cut(&s, cut);
    }
    free(s.normal);
    free(s.symbols);
    return ok;
}
