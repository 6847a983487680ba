/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/machine.h"

#include "bench/program.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

double machine_others(void) {
    enum { IDLE = 3, WAITING = 4, STOLEN = 7 }; /* user, nice, system, idle, waiting, two of interrupts, stolen */
    char line[256] = "";
    FILE *file = fopen("/proc/stat", "r");
    const int found = file && fgets(line, sizeof line, file) && !strncmp(line, "cpu ", 4);
    if (file) fclose(file);
    struct rusage own;
    if (!found || getrusage(RUSAGE_SELF, &own)) return 0;
    double ticks = 0;
    char *at = line + 4;
    for (int i = 0; i <= STOLEN; i++) {
        const double count = strtod(at, &at);
        if (i != IDLE && i != WAITING) ticks += count;
    }
    const double micro = (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec);
    return ticks / (double)sysconf(_SC_CLK_TCK) - (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) - 1e-6 * micro;
}

static char *cpu_model(void) {
    char line[256], *model = NULL;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !model && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (value && !strncmp(line, "model name", 10)) model = text("%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    }
    if (file) fclose(file);
    return model ? model : text("unknown");
}

/* The first line of a file of the kernel's about cache `index` of processor 0; "" when there is none. */
static void read_cache(int index, const char *what, char *line, int room) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, what);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, room, file)) line[0] = '\0';
    if (file) fclose(file);
    line[strcspn(line, "\n")] = '\0';
}

/* As the kernel tells it: inside a virtual machine the processor's own answer, which sysconf gives, may count what other
 * machines have. */
size_t machine_cache(int level) {
    for (int index = 0; index < 8; index++) {
        char kind[16] = "", size[16] = "", number[16] = "";
        read_cache(index, "level", number, sizeof number);
        read_cache(index, "type", kind, sizeof kind);
        read_cache(index, "size", size, sizeof size);
        if (strtol(number, NULL, 10) == level && strcmp(kind, "Instruction"))
            return (size_t)strtoul(size, NULL, 10) * 1024;
    }
    const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    const long size = sysconf(names[level - 1]);
    return size > 0 ? (size_t)size : 0;
}

static char *cache_sizes(void) {
    return text("L1d %zu KiB, L2 %zu KiB, L3 %zu MiB", machine_cache(1) >> 10, machine_cache(2) >> 10,
                machine_cache(3) >> 20);
}

static char *commit(void) {
    char line[128] = "";
    FILE *pipe =
        popen("git -C '" BENCH_SOURCE "' describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null", "r");
    if (pipe) {
        if (!fgets(line, sizeof line, pipe)) line[0] = '\0';
        pclose(pipe);
    }
    line[strcspn(line, "\n")] = '\0';
    return text("%s", line[0] ? line : "unknown");
}

static char *environment(void) {
    static const char *const prefixes[] = {"OPENBLAS_", "GOTO_NUM_THREADS=", "OMP_NUM_THREADS=", "ATTN_"};
    char *found = text("%s", "");
    for (char **variable = environ; *variable; variable++)
        for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
            if (!strncmp(*variable, prefixes[i], strlen(prefixes[i]))) {
                char *longer = text("%s%s%s", found, found[0] ? " " : "", *variable);
                release(found);
                found = longer;
            }
    return found;
}

static char *date(void) {
    char buffer[64];
    const time_t now = time(NULL);
    struct tm utc;
    strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
    return text("%s", buffer);
}

static int processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
}

machine machine_found(void) {
    struct utsname system;
    const int known = uname(&system) == 0;
    return (machine){
        .cpu = cpu_model(),
        .caches = cache_sizes(),
        .kernel = text("%s %s", known ? system.sysname : "unknown", known ? system.release : ""),
        .commit = commit(),
        .compiler = text("%s %s", BENCH_COMPILER, BENCH_BUILD),
        .date = date(),
        .environment = environment(),
        .processors = processors(),
    };
}

void machine_free(machine *found) {
    char *const memory[] = {found->cpu,      found->caches, found->kernel,     found->commit,
                            found->compiler, found->date,   found->environment};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) release(memory[i]);
}
