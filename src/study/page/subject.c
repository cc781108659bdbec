/* SPDX-License-Identifier: Apache-2.0
 *
 * subject: what the trained models were trained on, and a few pictures of its class. */
#include "html.h"
#include "parts.h"

static const char *comma(int index, int count)
{
    return !index ? "" : index == count - 1 ? " and " : ", ";
}

static void write_strip(page *p, int subject, bool of_class, int count)
{
    const subject_row *s = &p->s->measures->subject[subject];
    fputs(of_class ? "<ul class=\"strip small\">\n" : "<ul class=\"strip\">\n", p->out);
    for (int i = 0; i < count; i++) {
        char name[64];
        subject_image_name(name, subject, of_class, i);
        html_print(p->out,
                   "<li><a href=\"%s\"><img src=\"%s\" alt=\"%s, picture %d of %d\"></a></li>\n",
                   name, name, of_class ? "the class" : "the subject", i + 1,
                   of_class ? s->class_images : s->photos);
    }
    fputs("</ul>\n", p->out);
}

static void write_subject(page *p, int subject)
{
    const study_plan *plan = p->s->plan;
    const subject_row *s = &p->s->measures->subject[subject];
    const subject_images *have = &p->s->pictures[subject];
    if (!have->photos) return;
    html_print(p->out, "<figure class=\"subject\">\n<figcaption>The subject, <q>%s</q>: ",
               s->instance_prompt);
    if (have->photos < s->photos) html_print(p->out, "%d of ", have->photos);
    html_print(p->out, "the %d picture%s that ", s->photos, s->photos == 1 ? "" : "s");
    for (int k = 0; k < s->models; k++)
        html_print(p->out, "%s%s", comma(k, s->models), plan->model[s->model[k]].name);
    html_print(p->out, " %s trained on.</figcaption>\n", s->models == 1 ? "was" : "were");
    write_strip(p, subject, false, have->photos);
    fputs("</figure>\n", p->out);
    if (!have->classes) return;
    html_print(p->out,
               "<figure class=\"subject\">\n<figcaption>Its class%s%s%s as %s draws it: %d of the "
               "%d class "
               "pictures.</figcaption>\n",
               s->class_prompt ? ", \xe2\x80\x9c" : "", s->class_prompt ? s->class_prompt : "",
               s->class_prompt ? "\xe2\x80\x9d," : "", plan->model[s->base].name, have->classes,
               s->class_images);
    write_strip(p, subject, true, have->classes);
    fputs("</figure>\n", p->out);
}

void page_subjects(page *p)
{
    if (!p->s->pictures || !p->s->measures->subjects) return;
    fputs("<div class=\"subjects\">\n", p->out);
    for (int i = 0; i < p->s->measures->subjects; i++) write_subject(p, i);
    fputs("</div>\n", p->out);
}
