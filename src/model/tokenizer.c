/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer: CLIP's byte-level BPE, by the rule of transformers 5's CLIPTokenizer: added tokens
 * (the literal start and end tokens among them) are cut out first; the rest is composed (NFC), runs
 * of white space become one space, letters are lowered one by one (no context: no final sigma);
 * what is left of added tokens is cut out of that; then it is split into words, each word's bytes
 * become symbols, and ranked pairs of symbols are merged. Two open-addressing tables, tokens by
 * text and merges by pair, make loading and look-ups quick. */
#include "model/tokenizer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/arena.h"
#include "base/platform.h"
#include "file/fields.h"
#include "model/added_tokens.h"
#include "model/characters.h"

#define START_TOKEN "<|startoftext|>"
#define END_TOKEN "<|endoftext|>"
#define WORD_END "</w>"
enum {
    TOKENIZER_LIMIT = 64 << 20,
    MAX_ID = 1 << 24,
    TEXT_LIMIT = 32 << 10,
    MAX_FOLLOWERS = 1000,
    CLIP_VOCAB = 49408,
    NO_RANK = INT32_MAX
};

typedef struct token {
    const char *text;
    uint32_t hash;
    int32_t id;
} token;
typedef struct merge {
    uint64_t pair;
    int32_t rank, id;
} merge; /* rank -1: a free place */

struct tokenizer {
    arena memory; /* the tokens' text */
    added_tokens added;
    token *tokens; /* open addressing, a power of two of places */
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
    for (size_t i = 0; i < length; i++) h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h ^ h >> 15;
}

static uint64_t pair_of(int32_t a, int32_t b) { return (uint64_t)(uint32_t)a << 32 | (uint32_t)b; }

static size_t hash_pair(uint64_t pair)
{
    pair *= 0x9e3779b97f4a7c15u;
    return (size_t)(pair >> 32);
}

/* Places for n entries, at most half full. */
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n) size *= 2;
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
    while (t->merges[i].rank >= 0 && t->merges[i].pair != pair) i = (i + 1) & t->merge_mask;
    return &t->merges[i];
}

static bool add_token(tokenizer *t, const char *text, json_int_t number, const char *where,
                      error *e)
{
    if (number < 0 || number >= MAX_ID)
        return error_set(e, ERROR_FORMAT, "%s: token \"%.60s\" has no valid id", where, text);
    size_t length = strlen(text);
    token *place = find_token(t, text, length);
    if (place->text) return true;
    const char *copy = arena_strdup(&t->memory, text);
    if (!copy) return error_memory(e, "the tokenizer's vocabulary", length);
    *place = (token){copy, hash_text(text, length), (int32_t)number};
    t->token_count++;
    if (number >= t->size) t->size = (int32_t)number + 1;
    return true;
}

static json_int_t id_of(const json_t *value)
{
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* Adds every token of a vocabulary object; room is made for the added tokens. */
static bool add_vocab(tokenizer *t, json_t *vocab, const char *where, error *e)
{
    if (!json_is_object(vocab) || !json_object_size(vocab))
        return error_set(e, ERROR_FORMAT, "%s: has no vocabulary", where);
    size_t places = table_size(json_object_size(vocab) + t->added.count);
    t->tokens = calloc(places, sizeof *t->tokens);
    if (!t->tokens)
        return error_memory(e, "the tokenizer's vocabulary", places * sizeof *t->tokens);
    t->token_mask = places - 1;
    for (void *i = json_object_iter(vocab); i; i = json_object_iter_next(vocab, i))
        if (!add_token(t, json_object_iter_key(i), id_of(json_object_iter_value(i)), where, e))
            return false;
    return true;
}

static bool make_merges(tokenizer *t, size_t count, error *e)
{
    size_t places = table_size(count);
    t->merges = malloc(places * sizeof *t->merges);
    if (!t->merges) return error_memory(e, "the tokenizer's merges", places * sizeof *t->merges);
    for (size_t i = 0; i < places; i++) t->merges[i] = (merge){.rank = -1};
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
        return error_set(e, ERROR_FORMAT,
                         "%s: merge %d (\"%.*s\" \"%.*s\") names a token that the "
                         "vocabulary lacks",
                         where, rank + 1, (int)a_length, a, (int)b_length, b);
    merge *place = find_merge(t, pair_of(first, second));
    if (place->rank < 0) *place = (merge){pair_of(first, second), rank, whole};
    return true;
}

/* ---- signs of bytes ---- */

/* OpenAI's reversible map: printable Latin-1 bytes stand for themselves, the others for U+0100...
 */
static int sign_of_byte(int byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174) return byte;
    int before = 0; /* unprintable bytes below this one */
    for (int i = 0; i < byte; i++)
        before += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174);
    return 256 + before;
}

/* ---- files ---- */

/* merges.txt: "a b" a line; a first line that begins with #version is a comment. */
static bool parse_merges(tokenizer *t, const char *text, const char *where, error *e)
{
    size_t lines = 1;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    if (!make_merges(t, lines, e)) return false;
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
    if (!fields_open(&f, vocab, TOKENIZER_LIMIT, e)) return false;
    bool ok = add_vocab(t, f.root, vocab, e);
    fields_close(&f);
    char *text;
    if (!ok || !file_read(merges, TOKENIZER_LIMIT, &text, NULL, e)) return false;
    ok = parse_merges(t, text, merges, e);
    free(text);
    return ok;
}

/* CLIP's vocabulary follows from its merges: the bytes' signs, the same at the end of a word, what
 * each merge makes, the start and the end token. NULL with an error. */
static json_t *vocab_of_merges(const char *text, const char *where, error *e)
{
    json_t *vocab = json_object();
    char word[1024];
    int id = 0;
    bool ok = vocab;
    for (int end = 0; end < 2; end++)
        for (int pass = 0; pass < 2; pass++) /* those that stand for themselves come first */
            for (int byte = 0; ok && byte < 256; byte++) {
                int sign = sign_of_byte(byte);
                if ((sign < 256) != (pass == 0)) continue;
                word[utf8proc_encode_char(sign, (utf8proc_uint8_t *)word)] = 0;
                strcat(word, end ? WORD_END : "");
                ok = json_object_set_new(vocab, word, json_integer(id++)) == 0;
            }
    for (const char *line = text; ok && *line; line += strspn(line, "\r\n")) {
        int length = (int)strcspn(line, "\r\n"), space = (int)strcspn(line, " ");
        if (space < length && length < (int)sizeof word && strncmp(line, "#version", 8)) {
            snprintf(word, sizeof word, "%.*s%.*s", space, line, length - space - 1,
                     line + space + 1);
            ok = json_object_set_new(vocab, word, json_integer(id++)) == 0;
        }
        line += length;
    }
    ok = ok && json_object_set_new(vocab, START_TOKEN, json_integer(id)) == 0 &&
         json_object_set_new(vocab, END_TOKEN, json_integer(id + 1)) == 0;
    if (!ok)
        error_memory(e, where, sizeof *vocab);
    else if (json_object_size(vocab) == CLIP_VOCAB)
        return vocab;
    else
        error_set(e, ERROR_FORMAT,
                  "%s: holds %d merges; without a vocab.json beside them they must be "
                  "CLIP's %d",
                  where, id - 512, CLIP_VOCAB - 514);
    json_decref(vocab);
    return NULL;
}

static bool open_merges(tokenizer *t, const char *merges, error *e)
{
    char *text;
    if (!file_read(merges, TOKENIZER_LIMIT, &text, NULL, e)) return false;
    json_t *vocab = vocab_of_merges(text, merges, e);
    bool ok = vocab && add_vocab(t, vocab, merges, e) && parse_merges(t, text, merges, e);
    json_decref(vocab);
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
    const json_t *model = json_object_get(root, "model"),
                 *merges = json_object_get(model, "merges");
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if ((type && strcmp(type, "BPE")) || !suffix || strcmp(suffix, WORD_END) ||
        !json_is_array(merges))
        return error_set(e, ERROR_MODEL,
                         "%s: is not CLIP's tokenizer (byte-pair encoding with "
                         "\"" WORD_END "\")",
                         where);
    if (!add_vocab(t, json_object_get(model, "vocab"), where, e) ||
        !make_merges(t, json_array_size(merges), e))
        return false;
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (!add_json_merge(t, json_array_get(merges, i), (int32_t)i, where, e)) return false;
    return true;
}

/* Gives the added tokens their ids: the vocabulary's, else those that follow it, one by one, which
 * is what tokenizers gives them whatever a file says. A file that says otherwise is not believed.
 */
static bool place_added(tokenizer *t, const char *folder, error *e)
{
    int32_t next = (int32_t)t->token_count;
    for (size_t i = 0; i < t->added.count; i++) {
        added_token *a = &t->added.item[i];
        int32_t said = a->id, known = token_id(t, a->text, strlen(a->text));
        if (known < 0 && said < 0 && (!strcmp(a->text, START_TOKEN) || !strcmp(a->text, END_TOKEN)))
            return error_set(e, ERROR_FORMAT, "%s: the vocabulary lacks %s", folder, a->text);
        a->id = known >= 0 ? known : next++;
        if (said >= 0 && said != a->id)
            return error_set(e, ERROR_FORMAT,
                             "%s: the added token \"%.60s\" has id %d, where its row in "
                             "the text encoder should be %d%s; correct its id (added_tokens.json, "
                             "tokenizer_config.json, tokenizer.json)",
                             folder, a->text, (int)said, (int)a->id,
                             known >= 0 ? ", as in the vocabulary" : ", the next free one");
        if (!add_token(t, a->text, a->id, folder, e)) return false;
    }
    return true;
}

static bool finish_tables(tokenizer *t, const char *folder, error *e)
{
    t->start = token_id(t, START_TOKEN, strlen(START_TOKEN));
    t->end = token_id(t, END_TOKEN, strlen(END_TOKEN));
    if (t->start < 0 || t->end < 0) /* other words may be named as start and end */
        return error_set(e, ERROR_FORMAT, "%s: the vocabulary lacks %s", folder,
                         t->start < 0 ? START_TOKEN : END_TOKEN);
    int32_t pad = token_id(t, t->added.pad, strlen(t->added.pad));
    t->pad = pad >= 0 ? pad : t->end;
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

static bool normalize_added(tokenizer *t, error *e);

/* tokenizer.json where there is one, else vocab.json and merges.txt, else CLIP's merges.txt alone.
 */
static bool open_files(tokenizer *t, const char *folder, const char *json, const char *vocab,
                       const char *merges, error *e)
{
    fields f = {0};
    bool fast = path_is_file(json), named = path_is_file(vocab);
    if (!fast && !path_is_file(merges))
        return error_set(e, ERROR_FILE,
                         "%s: no tokenizer there (tokenizer.json, or merges.txt and "
                         "vocab.json)",
                         folder);
    bool ok = (!fast || fields_open(&f, json, TOKENIZER_LIMIT, e)) &&
              added_tokens_read(&t->added, &t->memory, folder, f.root, e) &&
              (fast    ? read_tokenizer_json(t, f.root, json, e)
               : named ? open_vocab_and_merges(t, vocab, merges, e)
                       : open_merges(t, merges, e));
    fields_close(&f);
    return ok && place_added(t, folder, e) && finish_tables(t, folder, e) && normalize_added(t, e);
}

bool tokenizer_open(tokenizer **out, const char *folder, error *e)
{
    *out = NULL;
    char *json = path_join(folder, "tokenizer.json"), *vocab = path_join(folder, "vocab.json");
    char *merges = path_join(folder, "merges.txt");
    tokenizer *t = calloc(1, sizeof *t);
    bool ok = json && vocab && merges && t ? open_files(t, folder, json, vocab, merges, e)
                                           : error_memory(e, "the tokenizer", sizeof *t);
    free(json);
    free(vocab);
    free(merges);
    if (ok)
        *out = t;
    else
        tokenizer_close(&t);
    return ok;
}

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

static bool normalize_added(tokenizer *t, error *e)
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
    if (token_id(t, word, strlen(word)) >= 0)
        return error_set(e, ERROR_MODEL,
                         "the tokenizer has a token \"%.60s\" already; give it another name", word);
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
    return add_token(t, word, *id, where, e);
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
        a[best].id = find_merge(t, pair_of(a[best].id, a[best + 1].id))->id;
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
    return token_id(t, text, strlen(text));
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

/* ---- placeholders of several vectors ---- */

static bool is_added(const tokenizer *t, const char *text)
{
    for (size_t i = 0; i < t->added.count; i++)
        if (!strcmp(t->added.item[i].text, text)) return true;
    return false;
}

/* "<dog> <dog>_1 <dog>_2" where these follow "<dog>", malloc'ed; *all NULL where none does. */
static bool whole_placeholder(const tokenizer *t, const char *text, char **all, error *e)
{
    *all = NULL;
    for (int i = 1; i < MAX_FOLLOWERS; i++) {
        char *next = string_format("%s_%d", text, i), *longer = NULL;
        bool known = next && is_added(t, next);
        if (known) longer = string_format("%s %s", *all ? *all : text, next);
        bool ok = next && (longer || !known);
        free(next);
        if (ok && !known) return true;
        free(*all);
        *all = longer;
        if (!ok) return error_memory(e, "the prompt", strlen(text));
    }
    return true;
}

/* Puts `by` in the place of every `what`. */
static bool replace(char **text, const char *what, const char *by, error *e)
{
    size_t n = strlen(what), count = 0;
    for (const char *p = *text; (p = strstr(p, what)); p += n) count++;
    char *out = malloc(strlen(*text) + count * strlen(by) + 1), *to = out;
    if (!out) return error_memory(e, "the prompt", count * strlen(by));
    const char *from = *text;
    for (const char *next; (next = strstr(from, what)); from = next + n) {
        memcpy(to, from, (size_t)(next - from));
        to = stpcpy(to + (next - from), by);
    }
    strcpy(to, from);
    free(*text);
    *text = out;
    return true;
}

static bool holds(const int32_t *ids, int count, int32_t id)
{
    for (int i = 1; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

/* diffusers' TextualInversionLoaderMixin.maybe_convert_prompt: *text is malloc'ed. Its words are as
 * they were found, which of a word with capital letters is the small ones: it is no placeholder. */
static bool expand(const tokenizer *t, char **text, error *e)
{
    int room = 4 * (int)strlen(*text) + 16;
    int32_t *ids = malloc((size_t)room * sizeof *ids);
    bool ok = ids ? tokenizer_encode(t, *text, room, ids, NULL, e)
                  : error_memory(e, "the prompt", (size_t)room * sizeof *ids);
    for (size_t i = 0; ok && i < t->added.count; i++) {
        const added_token *a = &t->added.item[i];
        char *all = NULL;
        ok = strcmp(a->match, a->text) != 0 || !holds(ids, room, a->id) ||
             whole_placeholder(t, a->text, &all, e);
        if (ok && all) ok = replace(text, a->text, all, e);
        free(all);
    }
    free(ids);
    return ok;
}

/* The text with its placeholders written out, malloc'ed. */
static bool written_out(const tokenizer *t, const char *text, char **out, error *e)
{
    /* beside the start and end tokens */
    bool plain = t->added.count <= 2 || strlen(text) > TEXT_LIMIT;
    *out = strdup(text);
    return *out ? plain || expand(t, out, e) : error_memory(e, "the prompt", strlen(text));
}

bool tokenizer_encode_prompt(const tokenizer *t, const char *text, int length, int32_t *ids,
                             char **cut, error *e)
{
    char *whole = NULL;
    if (cut) *cut = NULL;
    bool ok = written_out(t, text, &whole, e) && tokenizer_encode(t, whole, length, ids, cut, e);
    free(whole);
    return ok;
}

static const char *added_text(const tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->added.count; i++)
        if (t->added.item[i].id == id) return t->added.item[i].text;
    return NULL;
}

/* Whether a word is "<first>_<number>". */
static bool follows(const char *word, const char *first, int number)
{
    size_t n = strlen(first);
    char end[16];
    snprintf(end, sizeof end, "_%d", number);
    return word && strncmp(word, first, n) == 0 && strcmp(word + n, end) == 0;
}

/* The id of "<first>_<number>"; -1: there is none. */
static int32_t follower(const tokenizer *t, const char *first, int number)
{
    for (size_t i = 0; first && i < t->added.count; i++)
        if (follows(t->added.item[i].text, first, number)) return t->added.item[i].id;
    return -1;
}

/* Puts all vectors of every placeholder behind its first, to `to` unless that is NULL, and gives
 * how many ids there are then. */
static int put_followers(const tokenizer *t, const int32_t *ids, int count, int32_t *to)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        const char *first = added_text(t, ids[i]);
        int32_t id = ids[i];
        for (int k = 1; id >= 0; k++) {
            if (to) to[n] = id;
            n++;
            id = follower(t, first, k);
        }
    }
    return n;
}

bool tokenizer_encode_whole(const tokenizer *t, const char *text, int32_t **ids, int *count,
                            error *e)
{
    size_t room = 4 * strlen(text) + 16;
    encoder s = {.t = t, .e = e};
    *ids = NULL;
    *count = 0;
    s.ids = malloc(room * sizeof *s.ids);
    s.room = room > INT_MAX ? INT_MAX : (int)room;
    bool ok = (s.ids || error_memory(e, "the prompt", room * sizeof *s.ids)) &&
              run_encoder(&s, text);
    int whole = ok ? put_followers(t, s.ids, s.count, NULL) : 0;
    if (ok) *ids = malloc((size_t)(whole + 1) * sizeof **ids);
    ok = ok && (*ids || error_memory(e, "the prompt", (size_t)whole * sizeof **ids));
    if (ok) *count = put_followers(t, s.ids, s.count, *ids);
    free(s.ids);
    encoder_close(&s);
    return ok;
}

int tokenizer_placeholder(const tokenizer *t, const int32_t *ids, int count)
{
    const char *first = t->added.count > 2 ? added_text(t, ids[0]) : NULL;
    int n = 1;
    while (first && n < count && follows(added_text(t, ids[n]), first, n)) n++;
    return n;
}
