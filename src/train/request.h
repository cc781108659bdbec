/* SPDX-License-Identifier: Apache-2.0
 *
 * request: a training as it is asked for, as one text: what determines the trained weights, all of
 * it and nothing else, known before the training and unchanged by it. Whoever keeps trained models
 * can name them by the text's hash. */
#ifndef LIKENESS_TRAIN_REQUEST_H
#define LIKENESS_TRAIN_REQUEST_H

#include "train/settings.h"

typedef struct train_request {
    const train_settings *settings; /* its folders are looked into */
    const char *model; /* what names the base: the hash of its weights, or another request's hash */
    const char *precision; /* of the device: "no", "fp16" or "bf16" */
    int resolution;        /* the model's own, which settings->resolution 0 means; 0: not known */
    /* Where class pictures are made: how, in the words that their settings hold, and the
     * hash that the manifest gives their model (NULL: the model is not there yet, nor a picture of
     * it). */
    const char *class_maker, *class_model;
} train_request;

/* One line of JSON, for free(). Of the subject's pictures it holds the hashes of their bytes, in
 * their order; of class pictures that are made here only how, and the hashes of those that somebody
 * else put there. Precisely what train_setting_determines names of the settings. */
bool train_request_text(char **out, const train_request *r, error *e);

#endif
