/* SPDX-License-Identifier: Apache-2.0
 *
 * scores MODEL PHOTOS CLASS NOISES PICTURE...: how much of the subject in the folder PHOTOS is in
 * each picture, as a study measures it with the base MODEL as the judge and the pictures of the
 * folder CLASS as 0 %. Lines "share path"; the photos and the class, each scored with itself left
 * out, come first. For pictures that no study has: tools/measures/evidence.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "file/image.h"
#include "study/measure/judge.h"
#include "study/measure/score.h"

typedef struct place {
    const char *path;
    float *match;
    double score;
} place;

static _Noreturn void fail(const char *text)
{
    fprintf(stderr, "%s\n", text);
    exit(1);
}

/* Closes the picture. */
static view look(lk_features *eye, lk_image *picture, const char *path)
{
    error e = {0};
    view out;
    if (!judge_look(eye, picture, path, &out, &e)) fail(e.text);
    lk_image_close(&picture);
    return out;
}

static view look_at_photo(lk_features *eye, const lk_photos *photos, int i)
{
    lk_error why = {0};
    lk_image *picture;
    if (!lk_photos_image(&picture, photos, (size_t)i, &why)) fail(why.text);
    return look(eye, picture, lk_photos_path(photos, (size_t)i));
}

/* All of it, made a square. */
static view look_at_file(lk_features *eye, const char *path, int side)
{
    error e = {0};
    lk_error why = {0};
    lk_image *picture;
    image whole, square;
    if (!image_read(&whole, NULL, path, &e) ||
        !image_resize(&square, &whole, side, side, RESIZE_BILINEAR, &e))
        fail(e.text);
    if (!lk_image_from_pixels(&picture, square.pixels, side, side, 0, &why)) fail(why.text);
    image_free(&whole), image_free(&square);
    return look(eye, picture, path);
}

static lk_photos *open_photos(const char *folder, int side, bool of_class)
{
    lk_error why = {0};
    lk_photos *out;
    lk_photos_options o;
    lk_photos_defaults(&o);
    o.resolution = side;
    o.of_class = of_class;
    if (!lk_photos_open(&out, folder, &o, &why)) fail(why.text);
    return out;
}

int main(int argc, char **argv)
{
    error e = {0};
    lk_error why = {0};
    lk_context *context = NULL;
    lk_session *session = NULL;
    lk_model *model = NULL;
    lk_features *eye = NULL;
    if (argc < 5) return 2;
    lk_model_options o;
    lk_features_options how = judge_options(atoi(argv[4]));
    lk_model_defaults(&o);
    o.path = argv[1];
    if (!lk_context_open(&context, NULL, &why) || !lk_session_open(&session, context, NULL, &why) ||
        !lk_model_open(&model, context, &o, &why) ||
        !lk_features_open(&eye, session, model, &how, &why))
        fail(why.text);
    int side = engine_resolution(model), n = 0;
    lk_photos *own = open_photos(argv[2], side, false),
              *of_class = open_photos(argv[3], side, true);
    int photos = (int)lk_photos_count(own), classes = (int)lk_photos_count(of_class),
        all = photos + classes + argc - 5;
    view *mark = calloc((size_t)photos, sizeof *mark);
    place *at = calloc((size_t)all, sizeof *at);
    for (int i = 0; i < photos; i++) mark[i] = look_at_photo(eye, own, i);
    for (int i = 0; i < all; i++) {
        const lk_photos *set = i < photos ? own : of_class;
        int k = i < photos ? i : i - photos;
        bool is_photo = i < photos + classes;
        at[i].path = is_photo ? lk_photos_path(set, (size_t)k) : argv[5 + i - photos - classes];
        view seen = is_photo ? look_at_photo(eye, set, k) : look_at_file(eye, at[i].path, side);
        at[i].match = malloc((size_t)(photos * mark[0].places) * sizeof(float));
        for (int m = 0; m < photos; m++)
            view_match(&mark[m], &seen, at[i].match + m * mark[0].places);
        view_close(&seen);
    }
    const float **lists = malloc((size_t)(photos + classes) * sizeof *lists);
    for (int i = 0; i < photos + classes; i++) lists[i] = at[i].match;
    subject_scale s = {.own = lists,
                       .of_class = lists + photos,
                       .photos = photos,
                       .classes = classes,
                       .places = mark[0].places};
    double whole = 0, zero = 0;
    if (!scale_open(&s, &e)) fail(e.text);
    for (n = 0; n < all; n++) at[n].score = scale_score(&s, at[n].match);
    for (n = 0; n < photos; n++) whole += at[n].score / photos;
    for (n = 0; n < classes; n++) zero += at[photos + n].score / classes;
    for (n = 0; n < all; n++)
        printf("%.2f %s\n", 100 * (at[n].score - zero) / (whole - zero), at[n].path);
    return 0;
}
