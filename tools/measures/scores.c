/* SPDX-License-Identifier: Apache-2.0
 *
 * scores MODEL PHOTOS CLASS NOISES PICTURE...: how much of the subject in the folder PHOTOS is in each
 * picture, as a study measures it with the base MODEL as the judge and the pictures of the folder CLASS
 * as 0 %. Lines "share path"; the photos and the class, each scored with itself left out, come first. For
 * pictures that no study has: tools/measures/evidence.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/platform.h"
#include "study/judge.h"
#include "study/score.h"
#include "train/photos.h"

typedef struct place {
    char *path;
    float *match;
    double score;
} place;

static _Noreturn void fail(const error *e)
{
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

static view look(judge *j, const photo *p, int resolution)
{
    error e = {0};
    image m;
    view out;
    crop c = photo_center(p, resolution);
    if (!image_new(&m, resolution, resolution, &e)) fail(&e);
    for (int y = 0; y < resolution; y++)
        for (int i = 0; i < 3 * resolution; i++)
            m.pixels[3 * y * resolution + i] =
                p->picture.pixels[3 * ((c.top + y) * p->picture.width + c.left) + i];
    if (!judge_look(j, &m, p->path, &out, &e)) fail(&e);
    image_free(&m);
    return out;
}

int main(int argc, char **argv)
{
    error e = {0};
    device *d;
    model *m;
    judge *j;
    photo_set own, of_class;
    if (argc < 5) return 2;
    if (!device_open(&d, "cpu", &(device_options){.threads = cpu_count()}, &e) ||
        !model_open(&m, argv[1], NULL, NULL, &e) ||
        !judge_open(&j, d, m, atoi(argv[4]), &e))
        fail(&e);
    int resolution = m->unet.sample_size << (m->vae.blocks - 1), others = argc - 5, n = 0;
    if (!photo_set_open(&own, argv[2], resolution, 0, "instance", &e) ||
        !photo_set_open(&of_class, argv[3], resolution, 0, "class", &e))
        fail(&e);
    int photos = (int)own.count, classes = (int)of_class.count, all = photos + classes + others;
    view *mark = calloc((size_t)photos, sizeof *mark);
    place *at = calloc((size_t)all, sizeof *at);
    for (int i = 0; i < photos; i++) mark[i] = look(j, &own.item[i], resolution);
    for (int i = 0; i < all; i++) {
        photo one = {0};
        const photo *p = i < photos ? &own.item[i] : i < photos + classes ? &of_class.item[i - photos] : &one;
        if (p == &one) {
            image whole;
            one.path = argv[5 + i - photos - classes];
            if (!image_read(&whole, NULL, one.path, &e) ||
                !image_resize(&one.picture, &whole, resolution, resolution, RESIZE_BILINEAR, &e))
                fail(&e);
            image_free(&whole);
        }
        view seen = look(j, p, resolution);
        at[i].path = p->path;
        at[i].match = malloc((size_t)(photos * mark[0].places) * sizeof(float));
        for (int k = 0; k < photos; k++) view_match(&mark[k], &seen, at[i].match + k * mark[0].places);
        view_close(&seen);
        if (p == &one) image_free(&one.picture);
    }
    const float **lists = malloc((size_t)(photos + classes) * sizeof *lists);
    for (int i = 0; i < photos + classes; i++) lists[i] = at[i].match;
    subject_scale s = {.own = lists, .of_class = lists + photos, .photos = photos, .classes = classes,
                       .places = mark[0].places};
    double whole = 0, zero = 0;
    if (!scale_open(&s, &e)) fail(&e);
    for (n = 0; n < all; n++) at[n].score = scale_score(&s, at[n].match);
    for (n = 0; n < photos; n++) whole += at[n].score / photos;
    for (n = 0; n < classes; n++) zero += at[photos + n].score / classes;
    for (n = 0; n < all; n++) printf("%.2f %s\n", 100 * (at[n].score - zero) / (whole - zero), at[n].path);
    return 0;
}
