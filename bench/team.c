/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/team.h"

#include "bench/program.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct member {
    pthread_t thread;
    pthread_barrier_t *start;
    team_task task;
    void *argument;
    int index, threads;
    double began, ended;
} member;

static void *work(void *argument) {
    member *self = argument;
    pthread_barrier_wait(self->start);
    self->began = seconds_now();
    self->task(self->argument, self->index, self->threads);
    self->ended = seconds_now();
    return NULL;
}

double team_run(int threads, team_task task, void *argument) {
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    member *team = allocate((size_t)threads * sizeof *team);
    for (int i = 0; i < threads; i++)
        team[i] = (member){.start = &start, .task = task, .argument = argument, .index = i, .threads = threads};
    for (int i = 1; i < threads; i++)
        if (pthread_create(&team[i].thread, NULL, work, &team[i])) fail("can't start thread %d of %d", i + 1, threads);
    work(&team[0]);
    double began = team[0].began, ended = team[0].ended;
    for (int i = 1; i < threads; i++) {
        pthread_join(team[i].thread, NULL);
        if (team[i].began < began) began = team[i].began;
        if (team[i].ended > ended) ended = team[i].ended;
    }
    release(team);
    pthread_barrier_destroy(&start);
    return ended - began;
}
