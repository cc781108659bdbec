/* SPDX-License-Identifier: Apache-2.0
 *
 * pictures: the settings of cells that begin with a picture, or have a second pass over a
 * larger one, and the pictures that a plan names: each is opened once. */
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "base/sha256.h"
#include "layers.h"

/* ---- pictures -------------------------------------------------------------------------------- */

static bool open_picture(plan_reader *r, const char *key, const char *path,
                         const study_picture **out)
{
    lk_error why = {0};
    char size[32];
    sha256 h;
    study_picture *p = arena_alloc(&r->plan->memory, sizeof *p);
    if (!p) return plan_no_memory(r);
    if (!lk_image_open(&p->image, path, &why))
        return why.code == LK_MEMORY ? plan_no_memory(r)
                                     : plan_wrong(r, "\"%s\": %.600s", key, why.text);
    p->path = path;
    p->next = r->plan->picture; /* from here on study_plan_close finds it */
    *out = r->plan->picture = p;
    int width = lk_image_width(p->image), height = lk_image_height(p->image);
    snprintf(size, sizeof size, "%dx%d", width, height);
    sha256_start(&h);
    sha256_add(&h, size, strlen(size));
    sha256_add(&h, lk_image_pixels(p->image), 3 * (size_t)width * (size_t)height);
    sha256_end(&h, p->hash);
    return true;
}

bool plan_read_picture(plan_reader *r, json_t *object, const char *key, const study_picture **out)
{
    const char *path;
    if (!plan_read_path(r, object, key, true, false, &path)) return false;
    for (const study_picture *p = r->plan->picture; p; p = p->next)
        if (strcmp(p->path, path) == 0) {
            *out = p;
            return true;
        }
    return open_picture(r, key, path, out);
}

void plan_close_pictures(study_plan *p)
{
    for (study_picture *one = p->picture; one; one = one->next) lk_image_close(&one->image);
    p->picture = NULL;
}

/* ---- settings -------------------------------------------------------------------------------- */

/* Above low (or low itself), up to high. */
static bool read_number(const plan_reader *r, const fields *f, const char *key, double low,
                        bool from_low, double high, double *out)
{
    const json_t *value = json_object_get(f->root, key);
    if (!json_is_number(value)) return plan_wrong(r, "\"%s\" should be a number", key);
    *out = json_number_value(value);
    return (*out > low && *out <= high) || (from_low && *out == low) ||
           plan_wrong(r, "\"%s\" is %s; it should be a number %s %s, up to %s", key,
                      number_exact(*out).text, from_low ? "from" : "above", number_exact(low).text,
                      number_exact(high).text);
}

static bool read_upscaler(const plan_reader *r, fields *f, study_cell *c)
{
    lk_error why = {0};
    const char *word = field_text(f, "hires_upscaler", "");
    if (!f->ok) return false;
    const char *name = lk_upscaler_name(word, &why);
    if (!name) return plan_wrong(r, "\"hires_upscaler\": %.300s", why.text);
    c->hires_upscaler = strcmp(name, "latent") == 0 ? NULL : name;
    return true;
}

bool plan_read_pass(plan_reader *r, json_t *object, setting_key k, study_cell *c)
{
    fields f = {object, r->where, r->e, true};
    const char *name = layer_keys[k].name;
    switch (k) {
    case KEY_INIT_IMAGE: return plan_read_picture(r, object, name, &c->init);
    case KEY_MASK: return plan_read_picture(r, object, name, &c->mask);
    case KEY_STRENGTH: return read_number(r, &f, name, 0, false, 1, &c->strength);
    case KEY_HIRES_STRENGTH: return read_number(r, &f, name, 0, false, 1, &c->hires_strength);
    case KEY_HIRES_STEPS: c->hires_steps = field_int(&f, name, 0, 1, MAX_STEPS); return f.ok;
    case KEY_HIRES_UPSCALER: return read_upscaler(r, &f, c);
    default: break;
    }
    if (!read_number(r, &f, name, 1, true, 16, &c->hires)) return false;
    if (c->hires == 1) c->hires = 0; /* none, as no key is */
    return true;
}

/* ---- a cell ---------------------------------------------------------------------------------- */

static bool check_init(const plan_reader *r, const layer *all)
{
    const study_cell *c = &all->value;
    if (!c->init && (layer_has(all, KEY_STRENGTH) || c->mask))
        return plan_wrong(r, "has a \"%s\" and no \"init_image\", of which it is",
                          c->mask ? "mask" : "strength");
    if (!c->mask) return true;
    int size[4] = {lk_image_width(c->mask->image), lk_image_height(c->mask->image),
                   lk_image_width(c->init->image), lk_image_height(c->init->image)};
    return (size[0] == size[2] && size[1] == size[3]) ||
           plan_wrong(r,
                      "the \"mask\" is %dx%d, the \"init_image\" %dx%d; give a mask of the "
                      "picture's size",
                      size[0], size[1], size[2], size[3]);
}

static bool check_hires(const plan_reader *r, const layer *all)
{
    for (int k = KEY_HIRES_STEPS; k <= KEY_HIRES_UPSCALER; k++)
        if (layer_has(all, (setting_key)k) && !layer_has(all, KEY_HIRES))
            return plan_wrong(r, "has \"%s\" and no \"hires\", of which it is", layer_keys[k].name);
    return !all->value.hires || !all->value.init ||
           plan_wrong(r, "has both \"init_image\" and \"hires\", which is for pictures from text; "
                         "leave one out");
}

bool plan_check_pass(const plan_reader *r, layer *all)
{
    study_cell *c = &all->value;
    if (!check_init(r, all) || !check_hires(r, all)) return false;
    if (c->hires_steps == c->steps) c->hires_steps = 0;
    if (!c->hires) {
        c->hires_steps = 0;
        c->hires_strength = 0.7;
        c->hires_upscaler = NULL;
    }
    lk_generate_options o = cell_options(c);
    return lk_generate_steps(&o) > 0 ||
           plan_wrong(r, "\"strength\" %s of %d \"steps\" leaves none to make",
                      number_exact(c->strength).text, c->steps);
}
