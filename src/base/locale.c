/* SPDX-License-Identifier: Apache-2.0
 *
 * locale: see locale.h. newlocale gives the C locale without allocating (glibc, musl). */
#include "base/locale.h"

locale_change locale_enter(void)
{
    locale_t ours = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return (locale_change){uselocale(ours), ours};
}

void locale_leave(locale_change change)
{
    uselocale(change.before);
    freelocale(change.ours);
}
