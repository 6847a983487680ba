/* SPDX-License-Identifier: Apache-2.0 */
/* The cases of scaled-dot-product attention of a file, each on every implementation. */
#include "tools/attention-check/case_file.h"
#include "tools/attention-check/check.h"
#include "tools/attention-check/sdpa_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_forced(checker *check, const char *name, const char *implementation, sdpa_problem *problem,
                       size_t *usable) {
    check_forced *f = check_force(check, name, implementation);
    if (!f) return;
    attn_plan *plan;
    attn_status status = attn_sdpa_forward_plan(f->context, &problem->desc, &plan);
    if (status == ATTN_ERROR_UNSUPPORTED) {
        check_refused(f);
        return;
    }
    ++*usable;
    if (!status) status = sdpa_problem_run(problem, plan);
    if (status) {
        char line[512];
        snprintf(line, sizeof line, "%s: %s: %s", implementation, attn_status_string(status),
                 attn_last_error_message());
        check_fail(check, name, line);
    } else {
        const kit_verdict verdict = sdpa_problem_check(problem);
        check_judge(check, name, implementation, verdict.error, verdict.where);
    }
    attn_plan_destroy(plan);
}

static void check_problem(checker *check, const char *name, sdpa_problem *problem) {
    const char *names[CHECK_IMPLEMENTATIONS];
    const size_t count = sdpa_implementations(check->context, problem->spec.dtype, names, CHECK_IMPLEMENTATIONS);
    size_t usable = 0, asked = 0;
    for (size_t i = 0; i < count; i++) {
        if (!check_wanted(check->settings, names[i])) continue;
        asked++;
        run_forced(check, name, names[i], problem, &usable);
    }
    if (!count) check_absent(check, name, "forward", problem->spec.dtype);
    if (!usable && count && (asked || !check->settings->implementation))
        check_fail(check, name, "no implementation can run it");
}

static void check_case(checker *check, const char *name, const sdpa_file_case *c) {
    const bool onnx = sdpa_case_find(c, "opset");
    for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64; dtype++) {
        sdpa_problem *problem =
            onnx ? sdpa_case_problem_onnx(c, name, (attn_dtype)dtype) : sdpa_case_problem(c, name, (attn_dtype)dtype);
        if (!problem) {
            check_fail(check, name, c->error);
            return;
        }
        check_problem(check, name, problem);
        sdpa_problem_free(problem);
    }
}

void check_sdpa_file(checker *check, const attn_weights_file *file) {
    case_list list;
    if (!case_list_open(file, &list)) {
        check_fail(check, check->settings->path, "out of memory");
        return;
    }
    for (size_t first = 0, end; first < list.count; first = end) {
        const char *start = list.tensors[first]->name, *slash = strchr(start, '/');
        const size_t length = slash ? (size_t)(slash - start) + 1 : strlen(start);
        for (end = first; end < list.count && !strncmp(list.tensors[end]->name, start, length); end++) continue;
        char name[96], error[512] = "";
        snprintf(name, sizeof name, "%.*s", (int)(slash ? length - 1 : length), start);
        for (char *at = name; *at; at++)
            if ((unsigned char)*at < 32 || *at == 127) *at = '?';
        const sdpa_file_case c = {.file = file,
                                  .tensors = list.tensors + first,
                                  .count = end - first,
                                  .prefix = length,
                                  .error = error,
                                  .room = sizeof error};
        if (slash)
            check_case(check, name, &c);
        else
            check_fail(check, name, "a tensor that belongs to no case");
    }
    case_list_close(&list);
}
