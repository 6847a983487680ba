/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/add_two_numbers/samples.h"

#include "examples/experiment/experiment.h"

#include <stdlib.h>

/* Two different places from 1 on: the second is drawn from those that are left. */
static void draw_places(size_t place[2], size_t timesteps, double first, double second) {
    place[0] = 1 + (size_t)(first * (double)(timesteps - 1));
    place[1] = 1 + (size_t)(second * (double)(timesteps - 2));
    place[1] += place[1] >= place[0];
}

samples samples_make(size_t count, size_t timesteps, const size_t place[2], uint64_t seed, uint64_t stream) {
    samples s = {
        count,
        timesteps,
        experiment_array(count * timesteps, sizeof *s.x),
        experiment_array(count, sizeof *s.y),
        experiment_array(count, sizeof *s.place),
    };
    for (size_t i = 0; i < count; i++) {
        float *const x = s.x + i * timesteps;
        const uint64_t from = i * (timesteps + 2);
        for (size_t t = 0; t < timesteps; t++) x[t] = (float)nn_uniform(seed, stream, from + t);
        if (place)
            s.place[i][0] = place[0], s.place[i][1] = place[1];
        else
            draw_places(s.place[i], timesteps, nn_uniform(seed, stream, from + timesteps),
                        nn_uniform(seed, stream, from + timesteps + 1));
        s.y[i] = 0.5F * x[s.place[i][0]] + 0.5F * x[s.place[i][1]];
        x[s.place[i][0] - 1] = x[s.place[i][1] - 1] = 0; /* where one of the two stands before the other, it is lost */
    }
    return s;
}

void samples_free(samples *s) {
    free(s->x), free(s->y), free(s->place);
    *s = (samples){0};
}
