/* SPDX-License-Identifier: Apache-2.0
 *
 * error: how a failure from outside (files, flags, memory) travels up. A function that can fail so
 * returns bool (or NULL) and fills an error; our own mistakes assert. A message is one line that
 * says what is wrong, where, and what to do. */
#ifndef LIKENESS_BASE_ERROR_H
#define LIKENESS_BASE_ERROR_H

#include <stdbool.h>

typedef enum error_code {
    ERROR_NONE = 0,
    ERROR_USAGE,     /* a flag or argument that makes no sense */
    ERROR_FILE,      /* cannot be opened, read, written; disk full */
    ERROR_FORMAT,    /* the file is there, but its content is wrong */
    ERROR_MODEL,     /* a model that is not supported, or has wrong tensors */
    ERROR_MEMORY,    /* an allocation failed, or would not fit */
    ERROR_NUMERIC,   /* NaN or infinity */
    ERROR_CANCELLED, /* the caller's callback asked to stop */
    ERROR_DEVICE,    /* hardware that was there failed: lost, or its driver's or libraries' fault */
} error_code;

typedef struct error {
    error_code code;
    char text[2048];
} error;

/* Fills e (which may be NULL) printf-style and returns false. The first failure wins: an error that
 * is already set keeps its text. */
bool error_set(error *e, error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "not enough memory for WHAT (N bytes)"; returns false. */
bool error_memory(error *e, const char *what, unsigned long long bytes);

/* What the system says of an errno, where strerror may be at another thread's service. */
const char *error_reason(int code);

/* Puts "PREFIX: " before the text of an error that is set; returns false. */
bool error_prefix(error *e, const char *prefix);
/* Puts a text behind that of an error that is set; returns false. */
bool error_suffix(error *e, const char *suffix);

#endif
