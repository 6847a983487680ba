/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/measure.h"

#include "bench/machine.h"
#include "bench/program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_ROOM = 1 << 14, ROUNDS = 10, FEWEST_ROUNDS = 3 };
#define SAMPLE_SECONDS 20e-6 /* shorter calls are timed several at once: reading the clock takes some 30 ns */
#define WARM_SECONDS 1e-3    /* shorter calls get one untimed before their turn: the others have had the caches since */

/* The copies of H that the runs take turns on: one when warm. */
typedef struct copies {
    char *memory;
    size_t count, size, next; /* size: bytes from one to the next */
} copies;

typedef struct candidate {
    row *row;
    attn_context *context;
    attn_plan *plan;
    attn_layer_forward_args args;
    attn_context *back_context; /* DIRECTION_BACKWARD and DIRECTION_BOTH */
    attn_plan *back_plan;
    attn_layer_backward_args back_args;
    bench_direction direction;
    void *prepared;
    double estimate; /* seconds of a call */
    double *samples;
} candidate;

attn_context *measure_context(const options *wanted, const char *implementation) {
    attn_context_options o = ATTN_CONTEXT_OPTIONS_INIT;
    o.threads = wanted->threads, o.isa = wanted->isa, o.implementation = implementation;
    attn_context *context;
    return attn_context_create(&o, &context) ? NULL : context;
}

/* ---- Buffers ------------------------------------------------------------------------------------- */

static copies copies_make(const kit_problem *problem, size_t bytes, bool cold, size_t cold_bytes) {
    const size_t page = 4096;
    copies c = {.count = 1, .size = (bytes + page - 1) / page * page};
    if (cold) c.count = 2 + cold_bytes / c.size;
    c.memory = allocate(c.count * c.size);
    for (size_t i = 0; i < c.count; i++) memcpy(c.memory + i * c.size, problem->args.h, bytes);
    return c;
}

/* What the limit counts with, measured anew beside each workload: the best of what was seen. */
static void measure_limits(measurement *m, const copies *h, int threads) {
    m->bandwidth = fmax(m->bandwidth, peaks_read_bandwidth(threads, h->memory, h->count * h->size));
    if (m->cost.write_bytes > 0) {
        char *gradient = allocate((size_t)m->cost.h_bytes);
        m->write_bandwidth =
            fmax(m->write_bandwidth, peaks_write_bandwidth(threads, gradient, (size_t)m->cost.h_bytes));
        release(gradient);
    }
    m->gflops = fmax(m->gflops, peaks_arithmetic(threads, m->spec.dtype == ATTN_FLOAT64));
}

/* ---- Candidates ---------------------------------------------------------------------------------- */

static bool is_wanted(const options *wanted, const char *name, const char *chosen) {
    for (int i = 0; i < wanted->implementation_count; i++) {
        const char *prefix = wanted->implementations[i];
        if (!strcmp(prefix, "all") || !strncmp(name, prefix, strlen(prefix))) return true;
    }
    return !wanted->implementation_count && (strncmp(name, "cpu:scalar", 10) || !strcmp(name, chosen));
}

static void candidate_prepare(candidate *c, const kit_problem *problem, const options *wanted) {
    c->args = problem->args;
    c->args.lse = NULL;
    if (problem->spec.units) c->args.context = NULL;
    if (!wanted->attention_weights) c->args.attention_weights = NULL;
    c->row->workspace = c->args.workspace_size = attn_plan_workspace_size(c->plan);
    c->args.workspace = allocate(c->args.workspace_size);
    if (!wanted->prepared) return;
    const size_t size = c->row->prepared = attn_plan_prepared_size(c->plan);
    if (!size) return;
    c->args.prepared = c->prepared = allocate(size);
    if (attn_layer_prepare(c->plan, &c->args.weights, c->prepared, size)) fail("%s", attn_last_error_message());
    c->args.weights = (attn_layer_weights)ATTN_LAYER_WEIGHTS_INIT;
}

/* The name of the forward implementation that belongs to a backward one; its own for a forward one. */
static const char *forward_name(const char *implementation, char name[64]) {
    const char *at = strstr(implementation, ":backward:");
    if (!at) return implementation;
    snprintf(name, 64, "%.*s:forward:%s", (int)(at - implementation), implementation, at + strlen(":backward:"));
    return name;
}

/* False when the implementation can't run the problem; the row then says why. */
static bool candidate_plan(candidate *c, const kit_problem *problem, const options *wanted) {
    char name[64];
    attn_layer_desc desc = problem->desc;
    if (c->direction != DIRECTION_FORWARD) desc.flags |= ATTN_LAYER_TRAINING;
    c->context = measure_context(wanted, forward_name(c->row->implementation, name));
    bool planned = c->context && !attn_layer_forward_plan(c->context, &desc, &c->plan);
    if (planned && c->direction != DIRECTION_FORWARD) {
        c->back_context = measure_context(wanted, c->row->implementation);
        planned = c->back_context && !attn_layer_backward_plan(c->back_context, &desc, &c->back_plan);
    }
    if (!planned) c->row->refusal = text("%s", attn_last_error_message());
    return planned;
}

static void candidate_close(candidate *c) {
    release(c->prepared);
    release(c->args.workspace);
    release(c->args.kept);
    release(c->back_args.workspace);
    release(c->samples);
    attn_plan_destroy(c->plan);
    attn_plan_destroy(c->back_plan);
    attn_context_destroy(c->context);
    attn_context_destroy(c->back_context);
}

/* All gradients, from that of the output, or of the context where there is no other. */
static void candidate_prepare_back(candidate *c, kit_problem *problem) {
    c->args.kept_size = attn_plan_kept_size(c->plan);
    c->args.kept = allocate(c->args.kept_size);
    c->back_args = kit_problem_back_args(problem, problem->spec.units ? KIT_OUTPUT : KIT_CONTEXT, KIT_ALL_GRADIENTS);
    c->back_args.kept = c->args.kept, c->back_args.kept_size = c->args.kept_size;
    c->back_args.workspace_size = attn_plan_workspace_size(c->back_plan);
    c->back_args.workspace = allocate(c->back_args.workspace_size);
    c->row->workspace = c->back_args.workspace_size;
    if (c->direction == DIRECTION_BOTH && c->args.workspace_size > c->row->workspace)
        c->row->workspace = c->args.workspace_size;
}

static bool candidate_open(candidate *c, kit_problem *problem, const options *wanted) {
    if (!candidate_plan(c, problem, wanted)) {
        candidate_close(c);
        return false;
    }
    candidate_prepare(c, problem, wanted);
    if (c->direction != DIRECTION_FORWARD) candidate_prepare_back(c, problem);
    c->samples = allocate(SAMPLE_ROOM * sizeof *c->samples);
    return true;
}

static void call(candidate *c, copies *h) {
    c->args.h = c->back_args.h = h->memory + h->next * h->size;
    if (++h->next == h->count) h->next = 0;
    attn_status status = ATTN_OK;
    if (c->direction != DIRECTION_BACKWARD) status = attn_layer_forward(c->plan, &c->args);
    if (!status && c->direction != DIRECTION_FORWARD) status = attn_layer_backward(c->back_plan, &c->back_args);
    if (status) fail("%s: %s", c->row->implementation, attn_last_error_message());
}

/* The forward pass before a backward one that is timed alone; gradients poisoned by a run of the kit's own. */
static void begin_back(candidate *c, kit_problem *problem) {
    const unsigned incoming = problem->spec.units ? KIT_OUTPUT : KIT_CONTEXT;
    if (kit_problem_run(problem, c->plan, KIT_CONTEXT) ||
        kit_problem_back(problem, c->back_plan, incoming, KIT_ALL_GRADIENTS, 0) ||
        attn_layer_forward(c->plan, &c->args))
        fail("%s: %s", c->row->implementation, attn_last_error_message());
}

/* The very call that is timed, on poisoned outputs, against the reference. */
static void check(candidate *c, kit_problem *problem, copies *h) {
    const bool back = c->direction != DIRECTION_FORWARD;
    if (back) begin_back(c, problem);
    kit_problem_poison(problem);
    call(c, h);
    problem->given = (c->args.output ? KIT_OUTPUT : 0u) | (c->args.context ? KIT_CONTEXT : 0u) |
                     (c->args.attention_weights ? KIT_WEIGHTS : 0u);
    const kit_verdict verdict = back ? kit_problem_check_back(problem) : kit_problem_check(problem);
    if (verdict.error <= c->row->error) return;
    c->row->error = verdict.error;
    memcpy(c->row->where, verdict.where, sizeof c->row->where);
}

/* ---- Timing -------------------------------------------------------------------------------------- */

static double time_calls(candidate *c, copies *h, size_t calls) {
    const double began = seconds_now();
    for (size_t i = 0; i < calls; i++) call(c, h);
    return (seconds_now() - began) / (double)calls;
}

static void estimate(candidate *c, copies *h) {
    call(c, h);
    c->estimate = time_calls(c, h, 1);
    if (c->estimate < WARM_SECONDS) c->estimate = time_calls(c, h, 10);
    c->row->calls = h->count > 1 || c->estimate > SAMPLE_SECONDS ? 1 : (size_t)(SAMPLE_SECONDS / c->estimate) + 1;
}

/* One candidate's turn: as many samples as fit into the slice, one at the least. */
static void take_turn(candidate *c, copies *h, double slice) {
    if (c->estimate < WARM_SECONDS) call(c, h);
    for (const double end = seconds_now() + slice; c->row->samples < SAMPLE_ROOM;) {
        c->samples[c->row->samples++] = time_calls(c, h, c->row->calls);
        if (seconds_now() + c->estimate >= end) return;
    }
}

/* Rounds over the candidates, each beginning with another one, so that drift and neighbours meet them all. */
static void time_in_turns(candidate *candidates, size_t count, copies *h, const options *wanted, const char *name) {
    double slowest = 0;
    for (size_t i = 0; i < count; i++) {
        estimate(&candidates[i], h);
        slowest += candidates[i].estimate;
    }
    int rounds = wanted->rounds;
    if (rounds == NOT_GIVEN) {
        rounds = slowest > 0 && 4 * wanted->seconds / slowest < ROUNDS ? (int)(4 * wanted->seconds / slowest) : ROUNDS;
        if (rounds < FEWEST_ROUNDS) rounds = FEWEST_ROUNDS;
    }
    const double slice = count ? wanted->seconds / (rounds * (double)count) : 0;
    for (int round = 0; round < rounds; round++) {
        progress("%s: round %d of %d", name, round + 1, rounds);
        for (size_t i = 0; i < count; i++) take_turn(&candidates[((size_t)round + i) % count], h, slice);
    }
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarize(candidate *c) {
    row *r = c->row;
    qsort(c->samples, r->samples, sizeof *c->samples, by_value);
    const double last = (double)(r->samples - 1);
    r->minimum = c->samples[0];
    r->lower_quartile = c->samples[(size_t)(0.25 * last + 0.5)];
    r->median = c->samples[(size_t)(0.5 * last + 0.5)];
    r->upper_quartile = c->samples[(size_t)(0.75 * last + 0.5)];
}

/* ---- One workload -------------------------------------------------------------------------------- */

/* The rows of the implementations asked for, in the library's order of preference. */
static void name_rows(measurement *m, const kit_problem *problem, attn_context *context, const options *wanted) {
    attn_plan *plan;
    const bool back = m->direction != DIRECTION_FORWARD;
    if ((back ? attn_layer_backward_plan : attn_layer_forward_plan)(context, &problem->desc, &plan))
        fail("%s: %s", m->spec.name, attn_last_error_message());
    const char *names[IMPLEMENTATION_ROOM], *chosen = attn_plan_implementation(plan);
    const size_t count = kit_implementations(context, back ? "backward" : "forward", m->spec.score, m->spec.dtype,
                                             names, IMPLEMENTATION_ROOM);
    for (size_t i = 0; i < count; i++)
        if (is_wanted(wanted, names[i], chosen))
            m->rows[m->count++] = (row){.implementation = names[i], .chosen = !strcmp(names[i], chosen)};
    attn_plan_destroy(plan);
}

static void measure_problem(measurement *m, kit_problem *problem, const options *wanted, const peaks *limits) {
    candidate candidates[IMPLEMENTATION_ROOM] = {0};
    size_t count = 0;
    copies h = copies_make(problem, (size_t)m->cost.h_bytes, m->cold, limits->dram_bytes);
    measure_limits(m, &h, limits->threads);
    for (size_t i = 0; i < m->count; i++) {
        candidate *c = &candidates[count];
        *c = (candidate){.row = &m->rows[i], .direction = m->direction};
        if (!candidate_open(c, problem, wanted)) continue;
        progress("%s: checking %s", m->spec.name, c->row->implementation);
        check(c, problem, &h);
        if (c->row->error <= 1)
            count++;
        else
            candidate_close(c);
    }
    const double began = seconds_now(), others = machine_others();
    time_in_turns(candidates, count, &h, wanted, m->spec.name);
    m->others = (machine_others() - others) / (seconds_now() - began);
    for (size_t i = 0; i < count; i++) {
        check(&candidates[i], problem, &h);
        summarize(&candidates[i]);
        candidate_close(&candidates[i]);
    }
    measure_limits(m, &h, limits->threads);
    release(h.memory);
}

measurement measure(const kit_case *spec, bench_direction direction, const imdb *model, attn_context *context,
                    const options *wanted, const peaks *limits) {
    progress("%s: making the problem and its reference", spec->name);
    kit_problem *problem = workload_problem(spec, model);
    measurement m = {
        .spec = problem->spec,
        .direction = direction,
        .cold = wanted->cold,
        .with_prepared = wanted->prepared,
        .with_weights = wanted->attention_weights,
        .cost = workload_cost_of(spec, direction),
        .gflops = spec->dtype == ATTN_FLOAT32 ? limits->f32_gflops : limits->f64_gflops,
    };
    kit_problem_expect(problem);
    name_rows(&m, problem, context, wanted);
    measure_problem(&m, problem, wanted, limits);
    m.read_seconds = 1e-9 * m.cost.read_bytes / m.bandwidth;
    m.write_seconds = m.cost.write_bytes > 0 ? 1e-9 * m.cost.write_bytes / m.write_bandwidth : 0;
    m.gemm_seconds = 1e-9 * m.cost.gemm_flops / m.gflops;
    kit_problem_free(problem);
    progress(NULL);
    return m;
}

void measurement_free(measurement *m) {
    for (size_t i = 0; i < m->count; i++) release(m->rows[i].refusal);
}
