/* SPDX-License-Identifier: Apache-2.0
 *
 * pace: how much of a study's work is done, and how long the rest will take. The work is of a few
 * kinds, each with a unit of its own; how long a unit is, is measured while it is done, and until
 * then guessed from the kinds that were. */
#ifndef LIKENESS_STUDY_PACE_H
#define LIKENESS_STUDY_PACE_H

typedef enum pace_kind {
    PACE_CLASS,    /* steps of class pictures */
    PACE_UPDATES,  /* of trainings; with a prior they count half as much again */
    PACE_STEPS,    /* of pictures */
    PACE_MEASURES, /* pictures that are measured */
    PACE_KINDS,
} pace_kind;

typedef struct pace {
    double wanted[PACE_KINDS], done[PACE_KINDS];
    double timed[PACE_KINDS],
        seconds[PACE_KINDS]; /* of those done, how many were measured, and how long they took */
    double told;             /* the clock when it was last told of something; 0: never */
} pace;

/* More of a kind is done, by the clock. What is told first, or first after pace_rest, is not
 * measured. */
void pace_add(pace *p, pace_kind kind, double units, double clock);
void pace_rest(pace *p);
/* In steps of pictures, about. */
double pace_done(const pace *p);
double pace_total(const pace *p);
/* Seconds; 0: not known yet. */
double pace_left(const pace *p);

#endif
