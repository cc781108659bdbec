/* SPDX-License-Identifier: Apache-2.0
 *
 * host: a program with functions of its own that are called as the library's rooms call theirs. It
 * links, and none of them is called by the library while a picture is made. host PICTURE.png */
#include <likeness.h>
#include <stdio.h>
#include <stdlib.h>

static int called;

int add(int a, int b);
double scale(double x);
void *cast(void *p);
int record(void);
void field(void);
int error_set(void);
int png_read(void);

int add(int a, int b) { return called++, a + b; }
double scale(double x) { return called++, 2 * x; }
void *cast(void *p) { return called++, p; }
int record(void) { return called++; }
void field(void) { called++; }
int error_set(void) { return called++; }
int png_read(void) { return called++; }

int main(int argc, char **argv)
{
    lk_context *context = NULL;
    lk_session *session = NULL;
    lk_model *model = NULL;
    lk_image *picture = NULL;
    lk_generate_options options;
    lk_error error = {LK_OK, ""};
    lk_generate_defaults(&options);
    options.prompt = "a photo of a dog";
    options.steps = 1;
    if (argc < 2 || !lk_context_open(&context, NULL, &error) ||
        !lk_session_open(&session, context, NULL, &error) ||
        !lk_model_open(&model, context, NULL, &error) ||
        !lk_generate(&picture, session, model, &options, &error) ||
        !lk_image_save(picture, argv[1], &error))
        fprintf(stderr, "host: %s\n", error.text);
    lk_image_close(&picture);
    lk_model_close(&model);
    lk_session_close(&session);
    lk_context_close(&context);
    if (called) fprintf(stderr, "host: its own functions were called %d times\n", called);
    return error.code != LK_OK || called || add(1, 2) != 3 || scale(2) != 4 || cast(argv) != argv;
}
