/* SPDX-License-Identifier: Apache-2.0
 *
 * draws: epochs, batches and crops in the order in which torch's DataLoader, wrapped by
 * accelerate, takes them from the default generator; see draws.h. Also the state as bytes:
 * little-endian, all of it looked at before any of it is believed. */
#include "train/draws.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "LKDRAWS1";

/* The words that a saved state begins with: whose it is, where it stands. */
enum {
    HEAD_INSTANCES,
    HEAD_CLASSES,
    HEAD_RESOLUTION,
    HEAD_CENTER_CROP,
    HEAD_BATCH,
    HEAD_EPOCH_LOW,
    HEAD_EPOCH_HIGH,
    HEAD_FETCHED,
    HEAD_GIVEN,
    HEAD_AHEAD,
    HEAD_NEXT,
    HEAD_HAS_SPARE,
    HEAD_WORDS,
};

enum {
    STATE_SIZE = 624,
    EXAMPLE_WORDS = 6,
    FIXED_SIZE = 8 + 4 * HEAD_WORDS + 4 * STATE_SIZE + 8, /* magic, head, generator, its spare */
};

/* Batches of an epoch, of which at most two are loaded at a time. */
static uint32_t room_ahead(const draws *d)
{
    return d->batch < d->length / 2 ? 2 * d->batch : d->length;
}

bool draws_open(draws *d, uint64_t seed, const photo_set *instances, const photo_set *classes,
                bool center_crop, uint32_t batch, error *e)
{
    assert(instances->count && batch && (!classes || classes->count));
    size_t length = instances->count;
    if (classes && classes->count > length) length = classes->count;
    *d = (draws){
        .instances = instances,
        .classes = classes,
        .center_crop = center_crop,
        .length = (uint32_t)length,
        .batch = batch,
        .epoch = -1,
    };
    rng_seed(&d->random, seed);
    d->order = calloc(length, sizeof *d->order);
    d->ahead = calloc(room_ahead(d), sizeof *d->ahead);
    if (d->order && d->ahead) return true;
    draws_close(d);
    return error_memory(e, "the order of the pictures", length * (sizeof *d->order));
}

bool draws_can_repeat(const photo_set *instances, uint32_t repeats, error *e)
{
    size_t pictures = instances->count - instances->mirrored;
    return (uint64_t)pictures * repeats <= UINT32_MAX / 8 ||
           error_set(e, ERROR_USAGE, "--repeats %u of %zu pictures is too much; 100 is usual",
                     repeats, pictures);
}

bool draws_repeat(draws *d, uint64_t seed, uint32_t repeats, uint32_t prompts, error *e)
{
    if (!draws_can_repeat(d->instances, repeats, e)) return false;
    d->length = (uint32_t)(d->instances->count - d->instances->mirrored) * repeats;
    d->prompts = prompts;
    rng_seed_python(&d->python, seed);
    free(d->order);
    free(d->ahead);
    d->order = calloc(d->length, sizeof *d->order);
    d->ahead = calloc(room_ahead(d), sizeof *d->ahead);
    return (d->order && d->ahead) ||
           error_memory(e, "the order of the pictures", d->length * sizeof *d->order);
}

void draws_close(draws *d)
{
    free(d->order);
    free(d->ahead);
    *d = (draws){0};
}

/* ---- loading ---- */

/* torchvision's RandomCrop: top, then left, but nothing where the picture is the square; or the
 * centre. */
static crop draw_crop(draws *d, const photo *p, int resolution)
{
    uint32_t spare_height = (uint32_t)(p->picture.height - resolution),
             spare_width = (uint32_t)(p->picture.width - resolution);
    if (d->center_crop) return photo_center(p, resolution);
    if (!spare_height && !spare_width) return (crop){0};
    int top = (int)rng_below(&d->random, spare_height + 1);
    int left = (int)rng_below(&d->random, spare_width + 1);
    return (crop){top, left};
}

static example load_example(draws *d, uint32_t index)
{
    uint32_t pictures = (uint32_t)(d->instances->count - d->instances->mirrored);
    example x = {.instance = index % pictures};
    if (d->prompts) {
        x.prompt = rng_choice(&d->python, d->prompts);
        if (rng_uniform(&d->random) < 0.5f) x.instance += pictures;
        return x;
    }
    x.instance_crop = draw_crop(d, &d->instances->item[x.instance], d->instances->resolution);
    if (d->classes) {
        x.class_image = index % (uint32_t)d->classes->count;
        x.class_crop = draw_crop(d, &d->classes->item[x.class_image], d->classes->resolution);
    }
    return x;
}

static void load_batch(draws *d)
{
    for (uint32_t i = 0; i < d->batch && d->fetched < d->length; i++)
        d->ahead[d->ahead_count++] = load_example(d, d->order[d->fetched++]);
}

/* The loader's own seed, which serves only its workers, of which there are none; the sampler's. */
static void begin_epoch(draws *d)
{
    rng sampler;
    rng_random64(&d->random);
    rng_seed(&sampler, rng_random64(&d->random));
    rng_permutation(&sampler, d->order, d->length);
    d->epoch++;
    d->fetched = d->given = d->ahead_count = 0;
    load_batch(d);
}

void draws_next(draws *d, example *out, uint32_t *count, bool *last)
{
    if (d->epoch < 0 || d->given == d->length) begin_epoch(d);
    load_batch(d); /* accelerate looks for the epoch's end before it gives a batch */
    uint32_t n = d->ahead_count < d->batch ? d->ahead_count : d->batch;
    memcpy(out, d->ahead, n * sizeof *out);
    d->ahead_count -= n;
    memmove(d->ahead, d->ahead + n, d->ahead_count * sizeof *d->ahead);
    d->given += n;
    *count = n;
    *last = d->given == d->length;
}

/* ---- the state as bytes ---- */

static void put_u32(uint8_t **at, uint32_t v)
{
    for (int i = 0; i < 4; i++) *(*at)++ = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t **at)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) v |= (uint32_t) * (*at)++ << 8 * i;
    return v;
}

static size_t size_of_state(const draws *d, uint32_t ahead_count)
{
    size_t words = (size_t)d->length + (size_t)EXAMPLE_WORDS * ahead_count;
    if (d->prompts) words += (size_t)ahead_count + STATE_SIZE + 1;
    return FIXED_SIZE + 4 * words;
}

bool draws_save(const draws *d, void **data, size_t *size, error *e)
{
    *size = size_of_state(d, d->ahead_count);
    *data = malloc(*size);
    if (!*data) return error_memory(e, "the state of the random draws", *size);
    uint8_t *at = *data;
    memcpy(at, magic, sizeof magic);
    at += sizeof magic;
    uint64_t epoch = (uint64_t)d->epoch, spare;
    memcpy(&spare, &d->random.spare, sizeof spare);
    const uint32_t head[HEAD_WORDS] = {
        [HEAD_INSTANCES] = (uint32_t)d->instances->count,
        [HEAD_CLASSES] = d->classes ? (uint32_t)d->classes->count : 0,
        [HEAD_RESOLUTION] = (uint32_t)d->instances->resolution,
        [HEAD_CENTER_CROP] = d->center_crop,
        [HEAD_BATCH] = d->batch,
        [HEAD_EPOCH_LOW] = (uint32_t)epoch,
        [HEAD_EPOCH_HIGH] = (uint32_t)(epoch >> 32),
        [HEAD_FETCHED] = d->fetched,
        [HEAD_GIVEN] = d->given,
        [HEAD_AHEAD] = d->ahead_count,
        [HEAD_NEXT] = (uint32_t)d->random.next,
        [HEAD_HAS_SPARE] = d->random.has_spare,
    };
    for (int i = 0; i < HEAD_WORDS; i++) put_u32(&at, head[i]);
    for (int i = 0; i < STATE_SIZE; i++) put_u32(&at, d->random.state[i]);
    put_u32(&at, (uint32_t)spare);
    put_u32(&at, (uint32_t)(spare >> 32));
    for (uint32_t i = 0; i < d->length; i++) put_u32(&at, d->order[i]);
    for (uint32_t i = 0; i < d->ahead_count; i++) {
        const example *x = &d->ahead[i];
        put_u32(&at, x->instance);
        put_u32(&at, x->class_image);
        put_u32(&at, (uint32_t)x->instance_crop.top);
        put_u32(&at, (uint32_t)x->instance_crop.left);
        put_u32(&at, (uint32_t)x->class_crop.top);
        put_u32(&at, (uint32_t)x->class_crop.left);
    }
    if (d->prompts) {
        for (uint32_t i = 0; i < d->ahead_count; i++) put_u32(&at, d->ahead[i].prompt);
        for (int i = 0; i < STATE_SIZE; i++) put_u32(&at, d->python.state[i]);
        put_u32(&at, (uint32_t)d->python.next);
    }
    assert((size_t)(at - (uint8_t *)*data) == *size);
    return true;
}

static bool damaged(error *e)
{
    return error_set(e, ERROR_FORMAT,
                     "the saved state of the random draws is cut short or "
                     "damaged; resume from another checkpoint");
}

/* That the crop of a picture lies in it. */
static bool crop_fits(const photo_set *s, uint32_t index, crop c)
{
    if (!s) return !index && !c.top && !c.left;
    if (index >= s->count) return false;
    const image *m = &s->item[index].picture;
    return c.top >= 0 && c.left >= 0 && c.top <= m->height - s->resolution &&
           c.left <= m->width - s->resolution;
}

static int64_t epoch_of(const uint32_t *head)
{
    return (int64_t)((uint64_t)head[HEAD_EPOCH_HIGH] << 32 | head[HEAD_EPOCH_LOW]);
}

/* Whether the numbers can stand together in a run such as d. */
static bool head_fits(const draws *d, const uint32_t *head)
{
    uint32_t fetched = head[HEAD_FETCHED], given = head[HEAD_GIVEN], ahead = head[HEAD_AHEAD];
    int64_t epoch = epoch_of(head);
    return epoch >= -1 && fetched <= d->length && given <= fetched && fetched - given == ahead &&
           ahead <= room_ahead(d) && (epoch >= 0 || !fetched) && head[HEAD_NEXT] <= STATE_SIZE &&
           head[HEAD_HAS_SPARE] <= 1;
}

/* Fills order and ahead of `to`, which stand in its own memory. */
static bool read_lists(draws *to, const uint8_t *at)
{
    for (uint32_t i = 0; i < to->length; i++)
        if ((to->order[i] = get_u32(&at)) >= to->length) return false;
    for (uint32_t i = 0; i < to->ahead_count; i++) {
        example *x = &to->ahead[i];
        x->instance = get_u32(&at);
        x->class_image = get_u32(&at);
        x->instance_crop.top = (int)get_u32(&at);
        x->instance_crop.left = (int)get_u32(&at);
        x->class_crop.top = (int)get_u32(&at);
        x->class_crop.left = (int)get_u32(&at);
        if (!crop_fits(to->instances, x->instance, x->instance_crop) ||
            !crop_fits(to->classes, x->class_image, x->class_crop))
            return false;
    }
    if (!to->prompts) return true;
    for (uint32_t i = 0; i < to->ahead_count; i++)
        if ((to->ahead[i].prompt = get_u32(&at)) >= to->prompts) return false;
    for (int i = 0; i < STATE_SIZE; i++) to->python.state[i] = get_u32(&at);
    uint32_t next = get_u32(&at);
    to->python.next = (int)next;
    return next <= STATE_SIZE;
}

/* The run that the state is of, against d's. */
static bool same_run(const draws *d, const uint32_t *head, error *e)
{
    static const char *const what[] = {
        [HEAD_INSTANCES] = "a number of instance pictures of",
        [HEAD_CLASSES] = "a number of class pictures of",
        [HEAD_RESOLUTION] = "--resolution",
        [HEAD_CENTER_CROP] = "--center_crop",
        [HEAD_BATCH] = "--train_batch_size",
    };
    const uint32_t here[] = {
        [HEAD_INSTANCES] = (uint32_t)d->instances->count,
        [HEAD_CLASSES] = d->classes ? (uint32_t)d->classes->count : 0,
        [HEAD_RESOLUTION] = (uint32_t)d->instances->resolution,
        [HEAD_CENTER_CROP] = d->center_crop,
        [HEAD_BATCH] = d->batch,
    };
    for (int i = HEAD_INSTANCES; i <= HEAD_BATCH; i++)
        if (head[i] != here[i])
            return error_set(e, ERROR_USAGE,
                             "the checkpoint's run had %s %u, this one has %u; resume with the "
                             "settings and pictures of that run",
                             what[i], head[i], here[i]);
    return true;
}

bool draws_load(draws *d, const void *data, size_t size, error *e)
{
    const uint8_t *at = data;
    if (size < FIXED_SIZE || memcmp(at, magic, sizeof magic) != 0) return damaged(e);
    at += sizeof magic;
    uint32_t head[HEAD_WORDS];
    for (int i = 0; i < HEAD_WORDS; i++) head[i] = get_u32(&at);
    if (!same_run(d, head, e)) return false;
    if (!head_fits(d, head) || size != size_of_state(d, head[HEAD_AHEAD])) return damaged(e);

    draws read = *d;
    read.epoch = epoch_of(head);
    read.fetched = head[HEAD_FETCHED];
    read.given = head[HEAD_GIVEN];
    read.ahead_count = head[HEAD_AHEAD];
    read.random.next = (int)head[HEAD_NEXT];
    read.random.has_spare = head[HEAD_HAS_SPARE];
    for (int i = 0; i < STATE_SIZE; i++) read.random.state[i] = get_u32(&at);
    uint64_t spare = get_u32(&at);
    spare |= (uint64_t)get_u32(&at) << 32;
    memcpy(&read.random.spare, &spare, sizeof spare);

    read.order = calloc(d->length, sizeof *read.order);
    read.ahead = calloc(room_ahead(d), sizeof *read.ahead);
    bool ok = read.order && read.ahead;
    if (!ok)
        error_memory(e, "the order of the pictures", d->length * sizeof *read.order);
    else
        ok = read_lists(&read, at) || damaged(e);
    if (ok) {
        draws old = *d;
        *d = read;
        read = old;
    }
    free(read.order);
    free(read.ahead);
    return ok;
}
