/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gpu/checks.h"

#include <stdlib.h>
#include <string.h>

void check_streams(tally *t, subject *one, subject *other, int rounds) {
    subject *const pair[2] = {one, other};
    void *first[2];
    size_t bytes[2];
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        subject_poison(pair[i]);
        ok = pair[i]->kind->run(pair[i]) && ok;
        subject_wait(pair[i]);
        tally_count(t, ok && pair[i]->kind->right(pair[i]), pair[i]->name, "alone it is wrong");
        first[i] = pair[i]->kind->bits(pair[i], &bytes[i]);
        subject_poison(pair[i]);
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < 2; i++) ok = pair[i]->kind->run(pair[i]) && ok;
    for (int i = 0; i < 2; i++) subject_wait(pair[i]);
    for (int i = 0; i < 2; i++) {
        void *now = pair[i]->kind->bits(pair[i], &bytes[i]);
        tally_count(t, ok && !memcmp(now, first[i], bytes[i]), pair[i]->name,
                    "beside another stream it gives other bits");
        free(now);
        free(first[i]);
    }
}
