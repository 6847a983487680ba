/* SPDX-License-Identifier: Apache-2.0
 * Reports made-up measurements, for check.sh: one row that passed, one that missed its gate, one that was refused. */
#include "bench/program.h"
#include "bench/report.h"

#include <string.h>

int main(int argc, char **argv) {
    if (argc != 3) fail("usage: bench_check_report FILE.json FILE.csv");
    const row passed = {.implementation = "passed",
                        .chosen = true,
                        .error = 1,
                        .minimum = 1.25e-5,
                        .lower_quartile = 1.25e-5,
                        .median = 1.25e-5,
                        .upper_quartile = 1.25e-5,
                        .samples = 3,
                        .calls = 2,
                        .workspace = 64};
    row missed = passed, refused = passed;
    missed.implementation = "missed", missed.chosen = false, missed.error = 1.5;
    strcpy(missed.where, "output[0][0][0]");
    char reason[] = "a reason";
    refused.implementation = "refused", refused.chosen = false, refused.refusal = reason;
    measurement m = {.spec = {.name = "made_up", .row = "made_up", .queries = ATTN_LAST_STEP},
                     .bandwidth = 1,
                     .count = 3,
                     .rows = {passed, missed, refused}};
    imdb model = {.reviews = 1};
    const report r = {.machine = {"", "", "", "", "", "", "", 1},
                      .isa = "",
                      .blas = "",
                      .version = "",
                      .features = "",
                      .model = &model,
                      .measurements = &m,
                      .count = 1};
    report_measurement(&m);
    report_json(&r, argv[1]);
    report_csv(&r, argv[2]);
    return 0;
}
