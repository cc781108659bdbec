/* SPDX-License-Identifier: Apache-2.0
 *
 * locale: C's locale for this thread, for as long as something that follows the locale (printf's
 * fractions, jansson) is called. Nothing is allocated. */
#ifndef LIKENESS_BASE_LOCALE_H
#define LIKENESS_BASE_LOCALE_H

#include <locale.h>

typedef struct locale_change {
    locale_t before, ours;
} locale_change;
locale_change locale_enter(void);
void locale_leave(locale_change change);

#endif
