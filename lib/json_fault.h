/* What is wrong with JSON, in words of our own: the parser's texts name its flags and quote what it met.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_LIB_JSON_FAULT_H
#define ATTN_LIB_JSON_FAULT_H

#include <jansson.h>
#include <string.h>

/* Faults of strings, which the parser tells apart by its text alone. */
static inline const char *attn_json_syntax_fault(const char *text) {
    if (strncmp(text, "unexpected newline", 18) == 0) return "a newline within a string";
    if (strncmp(text, "control character", 17) == 0) return "a control character within a string";
    if (strncmp(text, "invalid escape", 14) == 0) return "an unknown escape in a string";
    return "not valid JSON";
}

/* The fault that the parser reported; where it is, error->position says. */
static inline const char *attn_json_fault(const json_error_t *error) {
    switch (json_error_code(error)) {
    case json_error_out_of_memory:
        return "out of memory for the JSON";
    case json_error_stack_overflow:
        return "JSON nested too deep";
    case json_error_invalid_utf8:
        return "text that is not UTF-8";
    case json_error_premature_end_of_input:
        return "the JSON ends too early";
    case json_error_end_of_input_expected:
        return "more text after the end of the JSON";
    case json_error_null_character:
        return "a string with the character NUL";
    case json_error_null_byte_in_key:
        return "a name with the character NUL";
    case json_error_duplicate_key:
        return "duplicate name in an object";
    case json_error_numeric_overflow:
        return "a number out of range";
    default:
        return attn_json_syntax_fault(error->text);
    }
}

#endif
