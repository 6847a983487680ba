/* SPDX-License-Identifier: Apache-2.0
 * What every part of the benchmark program needs: a clock, memory, giving up with a reason, progress. */
#ifndef BENCH_PROGRAM_H
#define BENCH_PROGRAM_H

#include <stddef.h>

double seconds_now(void); /* of a clock that only goes forward */

/* Zeroed memory, aligned to 64 bytes, in huge pages where the size is worth one and the system grants them.
 * Never NULL: out of memory ends the program. A size of 0 is fine. Given back by release(). */
void *allocate(size_t bytes);
void release(void *memory);

/* Says why on stderr and ends the program with status 2. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One line on stderr that replaces the last one, only when stderr is a terminal; NULL clears it. */
void progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* printf into new memory, given back by release(). */
char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
