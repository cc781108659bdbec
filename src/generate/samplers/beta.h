/* SPDX-License-Identifier: Apache-2.0
 *
 * beta: the beta distribution's quantiles, for sigmas that follow it. */
#ifndef LIKENESS_GENERATE_BETA_H
#define LIKENESS_GENERATE_BETA_H

/* The x in 0 .. 1 below which lies the share p of the distribution (scipy.stats.beta.ppf); a and b
 * are above 0. */
double beta_quantile(double p, double a, double b);

#endif
