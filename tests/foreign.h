/* SPDX-License-Identifier: Apache-2.0
 *
 * foreign: a device whose memory the host cannot touch, as a GPU's is: it lies in pages without any
 * rights but while one of the device's own functions runs, which are the processor's behind
 * translations. Whoever follows a pointer into it, instead of asking the device, ends the test. It
 * has its own copy of every weight, in such memory too. */
#ifndef LIKENESS_TESTS_FOREIGN_H
#define LIKENESS_TESTS_FOREIGN_H

#include "device/device.h"

/* Its name, for device_open, which knows it from then on. */
const char *foreign_device(void);
/* The name that a test opens its device by: LIKENESS_TEST_DEVICE's in the environment, "foreign"
 * for the one above, or "cpu". */
const char *test_device(void);

/* A sample's results in batches of two sizes: the same bytes where the device promises so
 * (batches_alike), else the same but for rounding. */
bool samples_alike(const device *d, const float *a, const float *b, size_t count);

#endif
