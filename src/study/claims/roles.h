/* SPDX-License-Identifier: Apache-2.0
 *
 * roles: what a prompt asks for, seen from a subject: "a photo of sks dog" (instance prompt) and "a
 * photo of dog" (class prompt) say that "sks" is the subject's word and "dog" the class's. */
#ifndef LIKENESS_STUDY_ROLES_H
#define LIKENESS_STUDY_ROLES_H

typedef enum prompt_role {
    ROLE_SUBJECT, /* has the subject's word: "sks dog on the beach" */
    ROLE_CLASS,   /* the class and no more than the class prompt says: "a photo of a dog" */
    ROLE_SCENE,   /* the class among other things: "a photo of a dog in the park" */
    ROLE_OTHER,   /* neither word: "a sailboat at sea" */
} prompt_role;

/* Capitals, punctuation and little words (a, the, of, in, ...) do not count. class_prompt NULL:
 * only the instance prompt itself is known to ask for the subject, all else is ROLE_OTHER. */
prompt_role prompt_role_of(const char *prompt, const char *instance_prompt,
                           const char *class_prompt);

/* The prompt with the subject's words left out ("a photo of dog on the beach"), malloc'ed; as it is
 * where it does not ask for the subject. NULL: memory is out. */
char *prompt_without_subject(const char *prompt, const char *instance_prompt,
                             const char *class_prompt);

#endif
