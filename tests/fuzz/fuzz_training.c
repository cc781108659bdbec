/* SPDX-License-Identifier: Apache-2.0
 *
 * Any lines "NAME=VALUE" as settings of a training: each taken or refused with a word, the whole
 * checked. */
#include "fuzz.h"

#include <string.h>

#include "train/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *rest = text;
    if (!text) abort();
    memcpy(text, data, size);
    text[size] = 0;
    train_settings s;
    train_settings_defaults(&s);
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        error e = {0};
        char *value = strchr(line, '=');
        if (value) *value++ = 0;
        fuzz_check(train_setting_set(&s, line, value ? value : "true", &e), &e);
        (void)train_setting_determines(&s, line);
    }
    error e = {0};
    fuzz_check(train_settings_check(&s, &e), &e);
    free(text);
    return 0;
}
