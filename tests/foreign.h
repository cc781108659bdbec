/* SPDX-License-Identifier: Apache-2.0
 *
 * foreign: a device whose memory the host cannot touch, as a GPU's is: it lies in pages without any rights
 * but while one of the device's own functions runs, which are the processor's behind translations. Whoever
 * follows a pointer into it, instead of asking the device, ends the test. It has its own copy of every
 * weight, in such memory too. */
#ifndef LIKENESS_TESTS_FOREIGN_H
#define LIKENESS_TESTS_FOREIGN_H

#include "device/device.h"

/* Its name, for device_open, which knows it from then on. */
const char *foreign_device(void);
/* The name that a test opens its device by: "cpu", or where the environment has LIKENESS_TEST_DEVICE=foreign
 * the foreign one's. */
const char *test_device(void);

#endif
