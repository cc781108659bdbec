/* SPDX-License-Identifier: Apache-2.0
 *
 * generate_like_check: what no flag of --like's picture can say by itself (which weights, noise and
 * pictures it was made of), compared with what is given here. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/generate.h"

/* What one of two texts of settings has that the other has not. */
typedef struct lost {
    char *text; /* "--lora dog:0.7 --vae mse", malloc'ed */
    bool lora, embedding, vae, tiny;
} lost;

/* ---- what is missing ---- */

size_t hash_item(const char *list, size_t digits)
{
    for (const char *end = list;; end++) {
        end = strstr(end, ", ");
        size_t n = end ? (size_t)(end - list) : strlen(list), hex = 0;
        while (hex < n && isxdigit((unsigned char)list[n - 1 - hex])) hex++;
        if (hex == digits || !end) return n;
    }
}

static bool lose(lost *l, const char *flag, const char *name, size_t n, const char *weight,
                 size_t length)
{
    char *longer = text_format("%s%s%s %.*s%s%.*s", l->text ? l->text : "", l->text ? " " : "",
                               flag, (int)n, name, length ? ":" : "", (int)length, weight);
    if (!longer) return false;
    free(l->text);
    l->text = longer;
    return true;
}

/* Items of a list of names and hashes whose hash the other list has not. weights: NULL, or of the
 * same names "dog: 0.7, ...". */
static bool lose_items(lost *l, const char *flag, const char *list, const char *other,
                       const char *weights, bool *any)
{
    for (size_t n, w; list && *list; list += n) {
        n = hash_item(list, LORA_DIGITS);
        char hash[LORA_DIGITS + 1];
        size_t name = n > LORA_DIGITS + 2 ? n - LORA_DIGITS - 2 : n;
        snprintf(hash, sizeof hash, "%.*s", (int)(n > name ? LORA_DIGITS : 0), list + name + 2);
        const char *weight = "";
        w = 0;
        if (weights && strncmp(weights, list, name) == 0 && weights[name] == ':') {
            weight = weights + name + 1;
            weight += *weight == ' ';
            w = strcspn(weight, ",");
            weights = weight + w;
            weights += strspn(weights, ", ");
        }
        if (!*hash || !other || !strstr(other, hash)) {
            if (!lose(l, flag, list, name, weight, w)) return false;
            *any = true;
        }
        n += strspn(list + n, ", ");
    }
    return true;
}

/* Of our own pictures only a tiny autoencoder has a hash of its own: a VAE is of the model. */
static bool find_lost(lost *l, const lk_settings *a, const lk_settings *b, bool ours)
{
    const char *vae = lk_settings_get(a, "VAE");
    if (!vae && !ours) vae = lk_settings_get(a, "VAE hash");
    bool gone = vae && !lk_settings_get(b, "VAE");
    l->tiny = gone && ours && lk_settings_get(a, "VAE hash");
    l->vae = gone && !l->tiny;
    return lose_items(l, "--lora", lk_settings_get(a, "Lora hashes"),
                      lk_settings_get(b, "Lora hashes"), lk_settings_get(a, "Lora weights"),
                      &l->lora) &&
           lose_items(l, "--embedding", lk_settings_get(a, "TI hashes"),
                      lk_settings_get(b, "TI hashes"), NULL, &l->embedding) &&
           (!gone || lose(l, l->tiny ? "--taesd" : "--vae", vae, strlen(vae), "", 0));
}

/* Whether the model's hash is another for want of what is missing. */
static bool changes_model(const lost *l) { return l->lora || l->embedding || l->vae; }

/* ---- comparing ---- */

static bool is_same(const task *t, const lk_settings *now, const char *key)
{
    const char *then = lk_settings_get(t->told, key), *here = lk_settings_get(now, key);
    return then == here || (then && here && strcmp(then, here) == 0);
}

static void compare_key(const task *t, const lk_settings *now, const char *key)
{
    const char *then = lk_settings_get(t->told, key), *here = lk_settings_get(now, key);
    if (is_same(t, now, key)) return;
    fail(STATUS_DONE,
         "warning: --like %s: the picture will be another: \"%s\" was %s, here it is %s", t->like,
         key, then ? then : "not told", here ? here : "missing");
}

static void tell_lost(const task *t, const lost *gone)
{
    if (gone->text)
        fail(STATUS_DONE,
             "warning: --like %s: the picture will be another: it was made with %s, which is not "
             "given here",
             t->like, gone->text);
}

/* Weights, noise and pictures that the picture names and that are not the ones here. What follows
 * from a missing file is told as that. */
static void compare(const task *t, const lk_settings *now, const lost *gone)
{
    static const char *const keys[] = {"Models", "Initial latents", "Init image hash", "Mask hash"};
    tell_lost(t, gone);
    if (!changes_model(gone)) compare_key(t, now, "Model hash");
    if (!gone->lora) compare_key(t, now, "Lora hashes");
    if (!gone->lora) compare_key(t, now, "Lora weights");
    if (!gone->embedding) compare_key(t, now, "TI hashes");
    if (!gone->vae && !gone->tiny) compare_key(t, now, "VAE hash");
    if (!gone->vae && !gone->tiny && !is_same(t, now, "Model hash")) compare_key(t, now, "VAE");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) compare_key(t, now, keys[i]);
    const char *key, *value;
    for (size_t i = 0; lk_settings_at(t->told, i, &key, &value); i++)
        if (like_is_control(key)) compare_key(t, now, key);
    for (size_t i = 0; lk_settings_at(now, i, &key, &value); i++)
        if (like_is_control(key) && !lk_settings_get(t->told, key)) compare_key(t, now, key);
}

/* AUTOMATIC1111 tells of the picture that one was made from only how much of it was changed, and
 * the same of a second pass. */
static void tell_lost_picture(const task *t)
{
    const char *strength = lk_settings_get(t->told, "Denoising strength"), *key, *value;
    if (!strength || t->init_image) return;
    for (size_t i = 0; lk_settings_at(t->told, i, &key, &value); i++)
        if (strncmp(key, "Hires ", 6) == 0 || strncmp(key, "First pass ", 11) == 0) return;
    fail(STATUS_DONE,
         "warning: --like %s: the picture will be another: it was made from a picture (Denoising "
         "strength %s) that is not given: -i FILE",
         t->like, strength);
}

static void tell_lost_decoder(const task *t)
{
    const char *decoder = lk_settings_get(t->told, "VAE Decoder");
    if (decoder && strcmp(decoder, "TAESD") == 0 && !t->models.taesd)
        fail(STATUS_DONE,
             "warning: --like %s: the picture will be another: a tiny autoencoder decoded it (VAE "
             "Decoder: TAESD) that is not given: --taesd FILE",
             t->like);
}

/* AUTOMATIC1111's hash of a model is one of its file, and its older ones of a part of it. */
static int compare_theirs(task *t)
{
    const char *then = lk_settings_get(t->told, "Model hash"),
               *name = lk_settings_get(t->told, "Model"), *path = t->models.path[0];
    char hash[65];
    struct stat s;
    if (!then) return STATUS_DONE;
    if (!name) name = "";
    if (t->models.count != 1 || !path || stat(path, &s) != 0 || !S_ISREG(s.st_mode) ||
        strlen(then) < MODEL_DIGITS)
        return fail(STATUS_DONE,
                    "warning: --like %s: it was made with the model %s (%s), which cannot be "
                    "compared with %s",
                    t->like, name, then,
                    t->models.count != 1 ? "several"
                    : path               ? path
                                         : "pocket");
    if (!lk_file_hash(hash, path, &t->error)) return fail_error(&t->error);
    if (strncasecmp(hash, then, strlen(then)) == 0) return STATUS_DONE;
    return fail(STATUS_DONE,
                "warning: --like %s: the picture will be another: it was made with the model %s "
                "(%s), %s is %.10s",
                t->like, name, then, path, hash);
}

/* No -m, and the weights are others. more: what is given here and was not then. */
static int refuse(const task *t, const lk_settings *now, const lost *gone, const lost *more)
{
    const char *then = lk_settings_get(t->told, "Model hash"),
               *name = lk_settings_get(t->told, "Model");
    if (changes_model(gone) && is_same(t, now, "Model"))
        return fail(STATUS_WRONG_USAGE,
                    "--like %s: it was made with %s: give that too, each by its file's path, or "
                    "say that it shall be without: -m %s",
                    t->like, gone->text, name ? name : "pocket");
    if (!is_same(t, now, "Model") || (!more->text && is_same(t, now, "Lora weights")))
        return fail(STATUS_WRONG_USAGE,
                    "--like %s: it was made with the model %s (%s)%s%s: say where it is with -m "
                    "PATH, or take another: -m pocket",
                    t->like, name ? name : "", then, gone->text ? " and " : "",
                    gone->text ? gone->text : "");
    compare(t, now, gone);
    return STATUS_DONE;
}

static int check(task *t, const lk_settings *now)
{
    lost gone = {0}, more = {0};
    const char *then = lk_settings_get(t->told, "Model hash"),
               *here = lk_settings_get(now, "Model hash");
    int status = STATUS_DONE;
    if (!find_lost(&gone, t->told, now, like_is_ours(t)) || !find_lost(&more, now, t->told, true))
        status = no_memory();
    else if (!t->models.given.count && then && here && strcmp(then, here) != 0)
        status = refuse(t, now, &gone, &more);
    else if (like_is_ours(t))
        compare(t, now, &gone);
    else {
        tell_lost(t, &gone);
        tell_lost_picture(t);
        tell_lost_decoder(t);
        status = compare_theirs(t);
    }
    free(gone.text);
    free(more.text);
    return status;
}

int like_check(task *t)
{
    if (!t->told) return STATUS_DONE;
    lk_settings *now = NULL;
    char *text = cell_settings(t, &t->cells[0]);
    if (!text) return STATUS_FAILED;
    int status = lk_settings_open(&now, text, &t->error) ? check(t, now) : fail_error(&t->error);
    lk_settings_close(&now);
    lk_free(text);
    return status;
}
