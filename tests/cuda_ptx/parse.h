/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_TESTS_PTX_PARSE_H
#define ATTN_TESTS_PTX_PARSE_H

#include "tests/cuda_ptx/ptx.h"

namespace ptx {

/* What an opcode does, and the modifiers it may have besides types. */
struct opcode {
    const char *name;
    handler run;
    meeting meets;
    const char *modifiers; /* separated by blanks */
};

const opcode *find_opcode(const std::string &name);

/* Whether the word between two points of an opcode names a type. */
bool find_type(const std::string &word, type *found);

} // namespace ptx

#endif
